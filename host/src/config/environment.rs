//! `PODTAP_...` variables of the environment.

use super::keys::{self, Key};

/// Variables that podtap reads elsewhere than for a key.
const OTHER_NAMES: [&str; 2] = ["PODTAP_CONFIG", "PODTAP_UPDATE_DOCS"];

/// What a variable of the environment is to the configuration.
#[derive(Debug)]
pub(super) enum Variable {
    /// It sets a key.
    Sets(&'static Key),
    /// It looks like one that does, but no key has this name.
    Unknown,
    /// It is not about configuration.
    Other,
}

/// Sorts a variable by its name.
pub(super) fn classify(name: &str) -> Variable {
    if !name.starts_with("PODTAP_") || OTHER_NAMES.contains(&name) {
        return Variable::Other;
    }
    match keys::keys().find(|key| key.environment_name() == name) {
        Some(key) => Variable::Sets(key),
        None if is_of_a_service(name) => Variable::Other,
        None => Variable::Unknown,
    }
}

/// Does Kubernetes inject it into every pod of a namespace that has a service called `podtap` or `podtap-...`?
///
/// `{NAME}_SERVICE_HOST`, `{NAME}_SERVICE_PORT`, `{NAME}_SERVICE_PORT_{PORT NAME}`, `{NAME}_PORT` and
/// `{NAME}_PORT_{NUMBER}_{TCP, UDP or SCTP}`, the last also with `_PROTO`, `_PORT` and `_ADDR`.
fn is_of_a_service(name: &str) -> bool {
    let of_a_port = |rest: &str| {
        let mut parts = rest.split('_');
        let number =
            parts.next().is_some_and(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        let protocol = parts.next().is_some_and(|part| ["TCP", "UDP", "SCTP"].contains(&part));
        let rest = parts.next().is_none_or(|part| ["PROTO", "PORT", "ADDR"].contains(&part));
        number && protocol && rest && parts.next().is_none()
    };
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.match_indices("_PORT_").any(|(index, found)| of_a_port(&name[index + found.len()..]))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn check(name: &str) -> &'static str {
        match classify(name) {
            Variable::Sets(key) => &key.path,
            Variable::Unknown => "unknown",
            Variable::Other => "other",
        }
    }

    #[test]
    fn every_key_has_a_name_of_its_own_that_no_service_takes() {
        let names: HashSet<_> = keys::keys().map(Key::environment_name).collect();
        assert_eq!(names.len(), keys::keys().count());
        assert!(names.iter().all(|name| !is_of_a_service(name)), "{names:?}");
    }

    #[test]
    fn variables_are_sorted_by_name() {
        assert_eq!(check("PODTAP_KAFKA_BROKERS"), "kafka.brokers");
        assert_eq!(check("PODTAP_STREAM_MAX_CONNECTIONS"), "stream.max_connections");
        assert_eq!(check("PODTAP_KAFKA_BROKER"), "unknown");
        assert_eq!(check("PODTAP_SUPPORT"), "unknown");
        for name in [
            "PATH",
            "PODTAP_CONFIG",
            "PODTAP_SERVICE_HOST",
            "PODTAP_SERVICE_PORT",
            "PODTAP_SERVICE_PORT_METRICS",
            "PODTAP_PORT",
            "PODTAP_PORT_9090_TCP",
            "PODTAP_PORT_9090_TCP_ADDR",
            "PODTAP_METRICS_SERVICE_HOST",
            "PODTAP_METRICS_PORT_80_UDP_PROTO",
        ] {
            assert_eq!(check(name), "other", "{name}");
        }
    }
}
