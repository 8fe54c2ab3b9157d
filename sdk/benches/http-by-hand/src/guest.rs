//! The same under the contract, for the sandbox.

use std::cell::RefCell;

use podtap_sdk::bindings::exports::podtap::decoder::decoder::Guest;
use podtap_sdk::bindings::podtap::decoder::types::{Attribute, Descriptor};
use podtap_sdk::{Batch, Output, Verdict};

use crate::fields::{ATTRIBUTES, STATUS};
use crate::{ByHand, head};

struct Plugin;

thread_local! {
    static DECODER: RefCell<ByHand> = RefCell::new(ByHand::default());
}

impl Guest for Plugin {
    fn describe() -> Descriptor {
        let attribute =
            |it: &podtap_sdk::Attribute| Attribute { name: it.name.into(), kind: it.kind, doc: it.doc.into() };
        Descriptor {
            name: "http".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            doc: "HTTP/1 by hand".into(),
            protocols: vec!["http".into()],
            ports: vec![80],
            attributes: ATTRIBUTES.iter().map(attribute).collect(),
            status: Some(STATUS.index()),
        }
    }

    fn configure(_: String) -> Result<(), String> {
        Ok(())
    }

    fn probe(from_server: bool, bytes: Vec<u8>) -> Verdict {
        let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let known = if from_server {
            head::status_line(line.trim_ascii()).is_some()
        } else {
            head::request_line(line).is_some()
        };
        if known { Verdict::Yes } else { Verdict::No }
    }

    fn feed(batch: Batch) -> Output {
        DECODER.with_borrow_mut(|decoder| decoder.feed(batch))
    }
}

podtap_sdk::bindings::export_component!(Plugin with_types_in podtap_sdk::bindings);
