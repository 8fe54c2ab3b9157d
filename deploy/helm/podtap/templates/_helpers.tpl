{{/* The name of everything that the release makes: DNS labels have up to 63 characters. */}}
{{- define "podtap.name" -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "podtap.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "podtap.name" .) -}}
{{- end -}}

{{- define "podtap.image" -}}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) -}}
{{- end -}}

{{/* By these a pod is found; they never change. */}}
{{- define "podtap.selector" -}}
app.kubernetes.io/name: podtap
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "podtap.labels" -}}
{{ include "podtap.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}
