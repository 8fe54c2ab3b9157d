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
    /// Path with what differs from request to request replaced: the configured route, or `{id}` in place of ids.
    pub ROUTE: Text = "http.route";
    /// Host that the request was for, without port.
    pub HOST: Text = "server.address";
    /// Version of the request's HTTP: `1.1`, `1.0` or `0.9`.
    pub VERSION: Text = "network.protocol.version";
    /// Who asked, in its own words.
    pub USER_AGENT: Text = "user_agent.original";
    /// Status code of the final response.
    pub STATUS: Uint = "http.response.status_code";
    /// Media type of the request's body.
    pub REQUEST_CONTENT_TYPE: Text = "http.request.header.content-type";
    /// Media type of the response.
    pub RESPONSE_CONTENT_TYPE: Text = "http.response.header.content-type";
    /// Bytes of the request's body on the wire, without framing.
    pub REQUEST_BODY_SIZE: Uint = "http.request.body.size";
    /// Bytes of the response's body on the wire, without framing.
    pub RESPONSE_BODY_SIZE: Uint = "http.response.body.size";
    /// Status code as text, where the server failed (5xx).
    pub ERROR_TYPE: Text = "error.type";
    /// Trace that the request belongs to, from `traceparent`, else from B3 fields.
    pub TRACE_ID: Text = "trace_id";
    /// Span that sent the request, from `traceparent`, else from B3 fields.
    pub SPAN_ID: Text = "span_id";
    /// X-Request-ID of the request.
    pub REQUEST_ID: Text = "http.request.header.x-request-id";
    /// X-Request-ID of the response, where the request has none.
    pub RESPONSE_REQUEST_ID: Text = "http.response.header.x-request-id";
    /// Status codes of the interim responses (1xx) before the final one, in order: `100`, `100,103`.
    pub INTERIM: Text = "podtap.http.interim";
    /// What the connection goes on with: the protocol that a 101 response names (`websocket`), `tunnel` after CONNECT.
    pub NEXT_PROTOCOL: Text = "podtap.http.next_protocol";
    /// What is wrong with request or response, names joined by commas.
    pub ANOMALY: Text = "podtap.http.anomaly";
    /// True where a loss made it unknowable which response belongs to which request: this is only one of the two.
    pub UNPAIRED: Flag = "podtap.http.unpaired";
    /// Configured fields of the request that have no attribute of their own: `name: value`, one a line.
    pub REQUEST_HEADERS: Text = "podtap.http.request.headers";
    /// Configured fields of the response that have no attribute of their own: `name: value`, one a line.
    pub RESPONSE_HEADERS: Text = "podtap.http.response.headers";
    /// Where configured.
    pub REQUEST_ACCEPT: Text = "http.request.header.accept";
    /// Where configured.
    pub REQUEST_ACCEPT_ENCODING: Text = "http.request.header.accept-encoding";
    /// Where configured.
    pub REQUEST_ACCEPT_LANGUAGE: Text = "http.request.header.accept-language";
    /// Where configured.
    pub REQUEST_CACHE_CONTROL: Text = "http.request.header.cache-control";
    /// Where configured.
    pub REQUEST_CONTENT_ENCODING: Text = "http.request.header.content-encoding";
    /// Where configured.
    pub REQUEST_FORWARDED: Text = "http.request.header.forwarded";
    /// Where configured.
    pub REQUEST_ORIGIN: Text = "http.request.header.origin";
    /// Where configured.
    pub REQUEST_RANGE: Text = "http.request.header.range";
    /// Where configured.
    pub REQUEST_REFERER: Text = "http.request.header.referer";
    /// Where configured.
    pub REQUEST_VIA: Text = "http.request.header.via";
    /// Where configured.
    pub REQUEST_X_FORWARDED_FOR: Text = "http.request.header.x-forwarded-for";
    /// Where configured.
    pub REQUEST_X_FORWARDED_HOST: Text = "http.request.header.x-forwarded-host";
    /// Where configured.
    pub REQUEST_X_FORWARDED_PROTO: Text = "http.request.header.x-forwarded-proto";
    /// Where configured.
    pub REQUEST_X_REAL_IP: Text = "http.request.header.x-real-ip";
    /// Where configured.
    pub RESPONSE_AGE: Text = "http.response.header.age";
    /// Where configured.
    pub RESPONSE_CACHE_CONTROL: Text = "http.response.header.cache-control";
    /// Where configured.
    pub RESPONSE_CONTENT_ENCODING: Text = "http.response.header.content-encoding";
    /// Where configured.
    pub RESPONSE_ETAG: Text = "http.response.header.etag";
    /// Where configured.
    pub RESPONSE_LOCATION: Text = "http.response.header.location";
    /// Where configured.
    pub RESPONSE_RETRY_AFTER: Text = "http.response.header.retry-after";
    /// Where configured.
    pub RESPONSE_SERVER: Text = "http.response.header.server";
    /// Where configured.
    pub RESPONSE_VIA: Text = "http.response.header.via";
    /// Where configured.
    pub RESPONSE_X_CACHE: Text = "http.response.header.x-cache";
}
