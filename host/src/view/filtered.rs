//! A view of those events alone that a filter wants.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::Shared;
use crate::event::{Event, Format};
use crate::filter::Filter;
use crate::publish::{Delivery, Output, PublishError};
use crate::read::{Receiver, Record};

/// Takes into a view what a filter wants; events that it cannot tell of are counted there.
#[derive(Clone, Default)]
pub struct Filtered {
    /// Where they go.
    pub view: Shared,
    /// None wants all.
    pub filter: Option<Arc<Filter>>,
}

impl Filtered {
    fn is_wanted(&self, event: Event<'_>) -> bool {
        let Some(filter) = &self.filter else { return true };
        let matches = fields(event).ok_or_else(String::new).and_then(|fields| filter.matches(&fields));
        matches.unwrap_or_else(|_| {
            self.view.lock().left_out().unfiltered += 1;
            false
        })
    }
}

/// An event as filters see it.
fn fields(event: Event<'_>) -> Option<Map<String, Value>> {
    let value = match event {
        Event::Exchange(exchange) => serde_json::to_value(exchange),
        Event::Connection(connection) => serde_json::to_value(connection),
    };
    match value {
        Ok(Value::Object(fields)) => Some(fields),
        _ => None,
    }
}

impl Output for Filtered {
    fn publish(&mut self, event: Event<'_>) -> Result<(), PublishError> {
        if self.is_wanted(event) {
            self.view.lock().record(event);
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<Delivery, PublishError> {
        Ok(Delivery { delivered: self.view.lock().traffic().exchanges, ..Delivery::default() })
    }
}

impl Receiver for Filtered {
    fn take(&mut self, record: &mut Record, _: Format, _: &[u8]) -> Result<Result<(), PublishError>, String> {
        self.view.lock().record_read(record);
        Ok(Ok(()))
    }

    fn pause(&mut self) -> Result<(), PublishError> {
        Ok(())
    }

    fn wants(&mut self, record: &Record) -> Result<bool, String> {
        self.filter.as_ref().map_or(Ok(true), |filter| filter.matches(record.fields()))
    }
}
