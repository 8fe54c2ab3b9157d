"""The parts of `cargo xtask e2e deploy` that read YAML; it calls them, see xtask/src/e2e_deploy.rs.

deploy.py chart CHART FOLDER     lints the chart and renders it as several operators would, into FOLDER
deploy.py rules RULES COMPONENT DASHBOARD
                                 parses the PromQL of alerts and dashboard
deploy.py configurations FILE... holds the podtap of each manifest against what it is promised to be, and prints what
                                 it would be started with, a line of JSON for each
"""

import json
import re
import sys
from pathlib import Path

import yaml

SECURITY = {
    "runAsUser": 65532,
    "runAsGroup": 65532,
    "runAsNonRoot": True,
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}

# The seconds that podtap takes for itself at the end, and some.
GRACE_SECONDS = 15

# What operators may want of the chart.
VALUES = {
    "defaults": {},
    "tls": {
        "config": {
            "kafka": {
                "tls": True,
                "tls_ca_file": "/run/podtap/kafka/ca.crt",
                "sasl_mechanism": "scram_sha_512",
                "sasl_username": "podtap",
                "sasl_password_file": "/run/podtap/kafka/password",
            }
        },
        "kafka": {"secret": "podtap-kafka"},
    },
    "password": {
        "config": {"kafka": {"tls": True, "sasl_mechanism": "plain", "sasl_username": "podtap"}},
        "extraEnv": [
            {
                "name": "PODTAP_KAFKA_SASL_PASSWORD",
                "valueFrom": {"secretKeyRef": {"name": "kafka-user", "key": "password"}},
            }
        ],
    },
    "token": {
        "config": {
            "kafka": {"tls": True, "sasl_mechanism": "oauthbearer", "sasl_token_file": "/run/podtap/token/kafka"}
        },
        "extraVolumes": [
            {
                "name": "token",
                "projected": {"sources": [{"serviceAccountToken": {"audience": "kafka", "path": "kafka"}}]},
            }
        ],
        "extraVolumeMounts": [{"name": "token", "mountPath": "/run/podtap/token", "readOnly": True}],
    },
    "all": {
        "image": {"tag": "0.1.1", "pullSecrets": ["registry"]},
        "spool": {"hostPath": ""},
        "serviceAccount": {"name": "watcher", "annotations": {"of": "operations"}},
        "priorityClassName": "system-node-critical",
        "podAnnotations": {"of": "operations"},
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "affinity": {"nodeAffinity": {}},
        "networkPolicy": {"enabled": True},
        "admin": {"port": 9500, "annotations": False},
        "monitoring": {
            "labels": {"release": "prometheus"},
            "podMonitor": {"enabled": True},
            "rules": {"enabled": True},
        },
    },
}

# What the chart has to refuse.
REFUSED = {
    "a password that anybody can read": {"config": {"kafka": {"sasl_password": "hunter2"}}},
    "a key that nobody reads": {"imag": {"tag": "1"}},
    "events that go nowhere": {"config": {"kafka": {"brokers": []}}},
}


def chart(path, folder):
    import helm_python as helm

    report = helm.lint(path, strict=True)
    wrong = [message for message in report["messages"] if message["severity"] >= 2] + report["errors"]
    require(not wrong, f"helm lint: {wrong}")
    with helm.Chart.load(path) as loaded:
        for name, values in VALUES.items():
            rendered = loaded.render(values, name="podtap", namespace="podtap")
            manifests = [text for file, text in sorted(rendered.items()) if file.endswith(".yaml") and text.strip()]
            # What is the Prometheus Operator's, Kubernetes has no schema of.
            operators = [text for text in manifests if "monitoring.coreos.com/v1" in text]
            require(len(operators) == ("monitoring" in values), f"chart-{name}: {len(operators)} files for the operator")
            for text in operators:
                monitor, rule = yaml.safe_load_all(text)
                groups = yaml.safe_load(Path(path, "files/rules.yaml").read_text())["groups"]
                require(rule["spec"]["groups"] == groups, f"chart-{name}: the rules are not those of files/rules.yaml")
                require(monitor["metadata"]["labels"]["release"] == "prometheus", f"chart-{name}: labels of PodMonitor")
            manifests = [text for text in manifests if text not in operators]
            Path(folder, f"chart-{name}.yaml").write_text("\n---\n".join(manifests))
        for what, values in REFUSED.items():
            try:
                loaded.render(values, name="podtap")
            except helm.HelmValuesError:
                continue
            sys.exit(f"the chart takes {what}")
    print(f"{len(VALUES)} times rendered, {len(REFUSED)} times refused")


def rules(rules, component, dashboard):
    """Are all expressions PromQL, and does the component have the same rules?"""
    import promql_parser

    groups = yaml.safe_load(Path(rules).read_text())["groups"]
    require(yaml.safe_load(Path(component).read_text())["spec"]["groups"] == groups, f"{component}: not as {rules}")
    expressions = [rule["expr"] for group in groups for rule in group["rules"]]
    for panel in json.loads(Path(dashboard).read_text())["panels"]:
        expressions += [target["expr"] for target in panel.get("targets", [])]
    for expression in expressions:
        try:
            promql_parser.parse(expression.replace("$__rate_interval", "5m"))
        except ValueError as error:
            sys.exit(f"{expression}: {error}")
    print(f"{len(expressions)} expressions")


def configurations(files):
    for file in files:
        documents = [document for document in yaml.safe_load_all(Path(file).read_text()) if document]
        name = Path(file).stem
        found = [container for document in documents for container in podtaps(document)]
        require(len(found) == 1, f"{name}: {len(found)} containers of podtap, not 1")
        pod, container, is_sidecar = found[0]
        check_container(name, pod, container, is_sidecar)
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        of = volumes[mounts["/etc/podtap"]["name"]]["configMap"]["name"]
        maps = [document for document in documents if document["kind"] == "ConfigMap"]
        texts = [document["data"]["podtap.yaml"] for document in maps if document["metadata"]["name"] == of]
        require(len(texts) == 1, f"{name}: no ConfigMap {of}")
        check_paths(name, yaml.safe_load(texts[0]), mounts)
        print_case(name, texts[0], environment(container))


def podtaps(document):
    """Each container of podtap, with its pod, and whether it is a sidecar."""
    pod = document.get("spec", {}).get("template", {}).get("spec", {})
    for kind in ["initContainers", "containers"]:
        for container in pod.get(kind, []):
            if container["name"] == "podtap":
                yield pod, container, kind == "initContainers"


def check_container(name, pod, container, is_sidecar):
    require(container["securityContext"] == SECURITY, f"{name}: securityContext: {container['securityContext']}")
    require(container["args"] == ["run", "--config", "/etc/podtap/podtap.yaml"], f"{name}: {container['args']}")
    require("command" not in container, f"{name}: a command, such as a shell, loses the capability")
    require("memory" in container["resources"]["limits"], f"{name}: no limit on memory")
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"]:
        # What a sidecar is not ready for must not keep requests from the service.
        wanted = probe == "livenessProbe" or (probe == "readinessProbe" and not is_sidecar)
        require((probe in container) == wanted, f"{name}: {probe}")
    (port,) = [port["containerPort"] for port in container["ports"] if port["name"] == "podtap-metrics"]
    listens = [variable["value"] for variable in container["env"] if variable["name"] == "PODTAP_ADMIN_LISTEN"]
    require(listens == [f"0.0.0.0:{port}"], f"{name}: listens to {listens}, probes ask {port}")
    always = container.get("restartPolicy") == "Always"
    require(always == is_sidecar, f"{name}: restartPolicy: a sidecar, and it alone, is always restarted")
    grace = pod.get("terminationGracePeriodSeconds", 30)
    require(grace >= GRACE_SECONDS, f"{name}: {grace} s are too few to end in")
    require(all("subPath" not in mount for mount in container["volumeMounts"]), f"{name}: subPath is never updated")


def check_paths(name, config, mounts):
    """What the configuration names is mounted, and what is written to can be."""
    kafka = config["kafka"]
    read = [kafka[key] for key in kafka if key.endswith("_file")] + config["plugins"]["directories"]
    for path in read:
        require(mount_of(path, mounts), f"{name}: {path} is in no volume")
    spool = config["spool"]["directory"]
    mount = mount_of(spool, mounts)
    require(mount and not mount.get("readOnly"), f"{name}: {spool} cannot be written to")


def mount_of(path, mounts):
    within = [mount for mount in mounts if path == mount or path.startswith(mount + "/")]
    return mounts[max(within, key=len)] if within else None


def environment(container):
    """The variables as the kubelet gives them: of a pod whose every field is called like its path, and
    whose secrets are like their keys."""
    variables = {}
    for variable in container["env"]:
        if "valueFrom" in variable:
            source = variable["valueFrom"]
            of = source["fieldRef"]["fieldPath"] if "fieldRef" in source else source["secretKeyRef"]["key"]
            value = re.sub(r"[^a-zA-Z0-9]+", "-", of)
        else:
            value = variable["value"]
            for known, text in variables.items():
                value = value.replace(f"$({known})", text)
            require("$(" not in value, f"{variable['name']}: {value}: of what is not known before")
        variables[variable["name"]] = value
    return variables


def print_case(name, text, variables):
    """The configuration, its environment, and the resource that events have by both."""
    config = yaml.safe_load(text)
    resource = dict(config.get("agent", {}).get("resource", {}))
    resource.update(pair.split("=") for pair in variables["PODTAP_AGENT_RESOURCE"].split(","))
    case = {
        "name": name,
        "text": text,
        "directories": config["plugins"]["directories"],
        "offline": {section: config[section] for section in config if section not in ["kafka", "spool"]},
        "environment": variables,
        "resource": resource,
    }
    print(json.dumps(case))


def require(holds, message):
    if not holds:
        sys.exit(message)


if __name__ == "__main__":
    task, *arguments = sys.argv[1:]
    match task:
        case "chart":
            chart(*arguments)
        case "rules":
            rules(*arguments)
        case "configurations":
            configurations(arguments)
