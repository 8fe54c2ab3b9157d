//! What an HTTP exchange carries, named by the OpenTelemetry semantic conventions for HTTP.

podtap_sdk::fields! {
    /// Method, `_OTHER` where it is none of the registered ones.
    pub METHOD: Text = "http.request.method";
    /// The method as sent, where `http.request.method` is `_OTHER`.
    pub METHOD_ORIGINAL: Text = "http.request.method_original";
    /// Path of the request target, without query.
    pub PATH: Text = "url.path";
    /// Query of the request target, with the values of secret keys replaced.
    pub QUERY: Text = "url.query";
    /// Scheme: `http`, or that of a request target in absolute form.
    pub SCHEME: Text = "url.scheme";
    /// Host that the request was for, without port.
    pub HOST: Text = "server.address";
    /// Version of the request's HTTP: `1.1` or `1.0`.
    pub VERSION: Text = "network.protocol.version";
    /// Who asked, in its own words.
    pub USER_AGENT: Text = "user_agent.original";
    /// Status code of the final response.
    pub STATUS: Uint = "http.response.status_code";
    /// Media type of the response.
    pub CONTENT_TYPE: Text = "http.response.header.content-type";
    /// Bytes of the request's body on the wire, without framing.
    pub REQUEST_BODY_SIZE: Uint = "http.request.body.size";
    /// Bytes of the response's body on the wire, without framing.
    pub RESPONSE_BODY_SIZE: Uint = "http.response.body.size";
    /// Status code as text, where the server failed (5xx).
    pub ERROR_TYPE: Text = "error.type";
    /// Trace that the request belongs to, from `traceparent`.
    pub TRACE_ID: Text = "trace_id";
    /// Span that sent the request, from `traceparent`.
    pub SPAN_ID: Text = "span_id";
}
