//! Which trace and span a request belongs to: W3C Trace Context, else B3 as Zipkin writes it.

use crate::head::Head;

/// Trace and span, in lower-case hex as sent.
pub(crate) fn trace<'a>(head: &Head<'a>) -> Option<(&'a [u8], &'a [u8])> {
    let multi = || pair(head.b3_trace_id?, head.b3_span_id?);
    head.traceparent.and_then(traceparent).or_else(|| head.b3.and_then(b3)).or_else(multi)
}

/// version "-" trace-id "-" parent-id "-" trace-flags (W3C Trace Context section 3.2).
fn traceparent(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = value.split(|&byte| byte == b'-');
    let (_version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    (trace.len() == 32).then(|| pair(trace, span))?
}

/// The single field of B3: trace-id "-" span-id [ "-" sampling [ "-" parent-span-id ] ], or a sampling decision alone.
fn b3(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut parts = value.split(|&byte| byte == b'-');
    pair(parts.next()?, parts.next()?)
}

/// B3 has traces of 64 bits, too. All zeros are no id.
fn pair<'a>(trace: &'a [u8], span: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
    let is_id = |id: &[u8]| {
        id.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) && id.iter().any(|&byte| byte != b'0')
    };
    (matches!(trace.len(), 16 | 32) && span.len() == 16 && is_id(trace) && is_id(span)).then_some((trace, span))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    #[track_caller]
    fn check(fields: &str, expected: Option<(&str, &str)>) {
        let head = format!("GET / HTTP/1.1\r\n{fields}\r\n\r\n");
        let expected = expected.map(|(trace, span)| (trace.as_bytes(), span.as_bytes()));
        Head::read(head.as_bytes(), |_, head| assert_eq!(trace(head), expected, "{fields}")).expect("a whole head");
    }

    #[test]
    fn every_way_of_writing_a_trace() {
        check(&format!("traceparent: 00-{TRACE}-{SPAN}-01"), Some((TRACE, SPAN)));
        check(&format!("b3: {TRACE}-{SPAN}-1-05e3ac9a4f6e3b90"), Some((TRACE, SPAN)));
        check(&format!("b3: {SPAN}-{SPAN}"), Some((SPAN, SPAN)));
        check(&format!("X-B3-TraceId: {TRACE}\r\nX-B3-SpanId: {SPAN}\r\nX-B3-Sampled: 1"), Some((TRACE, SPAN)));
        check(&format!("b3: {SPAN}-{SPAN}\r\ntraceparent: 00-{TRACE}-{SPAN}-01"), Some((TRACE, SPAN)));
        check(&format!("b3: {TRACE}-{SPAN}\r\ntraceparent: broken"), Some((TRACE, SPAN)));
    }

    #[test]
    fn what_is_no_id_is_none() {
        check("b3: 0", None);
        check(&format!("X-B3-TraceId: {TRACE}"), None);
        check(&format!("traceparent: 00-{SPAN}-{SPAN}-01"), None);
        check(&format!("traceparent: 00-{}-{SPAN}-01", TRACE.to_uppercase()), None);
        check(&format!("traceparent: 00-{}-{SPAN}-01", "0".repeat(32)), None);
        check(&format!("b3: {TRACE}-{}", "0".repeat(16)), None);
    }
}
