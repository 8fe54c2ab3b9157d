//! What an exchange keeps of its messages.

use podtap_sdk::Exchange;

use crate::anomaly::{Anomalies, Anomaly};
use crate::config::Config;
use crate::fields::*;
use crate::framing::{Asked, Body};
use crate::head::{Head, RequestLine, StatusLine, Version, is_registered};
use crate::target::{self, Target};
use crate::trace;

/// What a request leaves for its response, and both for the end.
#[derive(Debug, Default)]
pub(crate) struct State {
    asked: Asked,
    /// It asked for another protocol.
    upgrade: bool,
    pub(crate) anomalies: Anomalies,
    interim: Interim,
}

/// Interim responses: their status codes less 100, the first few.
#[derive(Clone, Copy, Debug, Default)]
struct Interim {
    codes: [u8; 4],
    count: u8,
}

impl Interim {
    fn note(&mut self, status: u16) {
        if let Some(code) = self.codes.get_mut(usize::from(self.count)) {
            *code = status.saturating_sub(100) as u8;
            self.count += 1;
        }
    }
}

/// Sets what is known only at the end of an exchange.
pub(crate) fn complete(exchange: &mut Exchange<State>) {
    if exchange.is_order_lost() {
        exchange.set(UNPAIRED, true);
    }
    if exchange.state.interim.count > 0 {
        let Interim { codes, count } = exchange.state.interim;
        let codes: Vec<_> = codes.iter().take(count.into()).map(|code| (100 + u16::from(*code)).to_string()).collect();
        exchange.set(INTERIM, codes.join(",").as_str());
    }
    if !exchange.state.anomalies.is_empty() {
        let names = exchange.state.anomalies.names();
        exchange.set(ANOMALY, names.as_str());
    }
}

/// Takes a request's head; says what body follows.
pub(crate) fn describe_request(
    exchange: &mut Exchange<State>,
    line: &RequestLine<'_>,
    head: &Head<'_>,
    config: &Config,
) -> Body {
    let known = is_registered(line.method);
    let operation: &[u8] = if known { line.method } else { b"_OTHER" };
    exchange.state.asked = match operation {
        b"HEAD" => Asked::Head,
        b"CONNECT" => Asked::Connect,
        _ => Asked::Other,
    };
    exchange.state.upgrade = head.upgrade.is_some();
    let target = Target::parse(line.target, exchange.state.asked == Asked::Connect);
    exchange.describe(operation, target.path, b"");
    exchange.set(METHOD, operation);
    if !known {
        exchange.set(METHOD_ORIGINAL, line.method);
    }
    describe_target(exchange, &target, line.version, config);
    // A host in the target comes before the field (RFC 9112 section 3.2.2).
    if let Some(host) = target.host.or(head.host.map(target::host)).filter(|host| !host.is_empty()) {
        exchange.set(HOST, host);
    }
    if let Some(user_agent) = head.user_agent {
        exchange.set(USER_AGENT, user_agent);
    }
    if let Some(content_type) = head.content_type {
        exchange.set(REQUEST_CONTENT_TYPE, content_type);
    }
    if let Some((trace, span)) = trace::trace(head) {
        exchange.set(TRACE_ID, trace);
        exchange.set(SPAN_ID, span);
    }
    if let Some(id) = head.request_id {
        exchange.set(REQUEST_ID, id);
    }
    if !config.request_headers.is_empty() {
        config.request_headers.set(head.section, exchange);
    }
    let anomalies = &mut exchange.state.anomalies;
    anomalies.add(head.anomalies);
    anomalies.note_if(line.spaced, Anomaly::SpaceInStartLine);
    anomalies.note_if(line.version == Version::Http11 && head.host.is_none(), Anomaly::MissingHost);
    head.body.check(line.version, anomalies);
    head.body.of_request()
}

/// Takes a request of HTTP/0.9.
pub(crate) fn describe_simple(exchange: &mut Exchange<State>, target: &[u8], config: &Config) {
    let target = Target::parse(target, false);
    exchange.describe(b"GET", target.path, b"");
    exchange.set(METHOD, b"GET".as_slice());
    describe_target(exchange, &target, Version::Http09, config);
    if let Some(host) = target.host {
        exchange.set(HOST, host);
    }
}

fn describe_target(exchange: &mut Exchange<State>, target: &Target<'_>, version: Version, config: &Config) {
    exchange.set(PATH, target.path);
    if let Some(query) = target.query {
        exchange.set(QUERY, query);
    }
    exchange.set(SCHEME, target.scheme.unwrap_or(b"http"));
    // Only a path has a route: not `*`, not the authority of CONNECT.
    if target.path.starts_with(b"/")
        && let Some(route) = config.routes.of(target.path)
    {
        exchange.set(ROUTE, route);
    }
    exchange.set(VERSION, version.text());
}

/// Takes a response's head; says what body follows.
pub(crate) fn describe_response(
    exchange: &mut Exchange<State>,
    line: StatusLine,
    head: &Head<'_>,
    config: &Config,
) -> Body {
    let status = line.status;
    let interim = (100..=199).contains(&status);
    let anomalies = &mut exchange.state.anomalies;
    anomalies.add(head.anomalies);
    anomalies.note_if((interim || matches!(status, 204 | 205)) && head.body.has_content(), Anomaly::ContentNotAllowed);
    if interim && status != 101 {
        exchange.state.interim.note(status);
        return Body::None;
    }
    head.body.check(line.version, anomalies);
    exchange.set(STATUS, status);
    if status >= 500 {
        exchange.set(ERROR_TYPE, head.start_line.get(9..12).unwrap_or_default());
    }
    if let Some(content_type) = head.content_type {
        exchange.set(RESPONSE_CONTENT_TYPE, content_type);
    }
    if let Some(id) = head.request_id
        && !exchange.has(REQUEST_ID)
    {
        exchange.set(RESPONSE_REQUEST_ID, id);
    }
    if !config.response_headers.is_empty() {
        config.response_headers.set(head.section, exchange);
    }
    let body = head.body.of_response(status, exchange.state.asked);
    if body == Body::Tunnel {
        describe_tunnel(exchange, status, head);
    }
    body
}

/// What the connection goes on with (RFC 9110 sections 7.8, 9.3.6).
fn describe_tunnel(exchange: &mut Exchange<State>, status: u16, head: &Head<'_>) {
    if status != 101 {
        return exchange.set(NEXT_PROTOCOL, "tunnel");
    }
    // Of a request that was not captured nobody knows what it asked.
    if !exchange.state.upgrade && exchange.has(METHOD) {
        exchange.state.anomalies.note(Anomaly::UnaskedUpgrade);
    }
    let named = head.upgrade.unwrap_or_default().split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    if !named.is_empty() {
        exchange.set(NEXT_PROTOCOL, named.to_ascii_lowercase().as_slice());
    }
}
