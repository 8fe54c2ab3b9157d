//! pcap-filter expressions on packets of a file, compiled by libpcap for each link type that occurs.

use std::collections::HashMap;

use pcap::{BpfProgram, Capture, Linktype};

/// An expression that libpcap refuses.
#[derive(Debug, thiserror::Error)]
#[error(
    "filter `{expression}` is not valid for link type {link_type}: {reason}; it takes libpcap's language, such as `tcp port 80`"
)]
pub struct FilterError {
    expression: String,
    link_type: u32,
    reason: String,
}

/// A pcap-filter(7) expression.
pub struct Filter {
    expression: String,
    programs: HashMap<u32, BpfProgram>,
}

impl Filter {
    /// Takes the expression; it is compiled when a link type is first seen. Ethernet is tried at once, so that a mistake
    /// shows before any work.
    ///
    /// # Errors
    /// libpcap's own message.
    pub fn new(expression: &str) -> Result<Filter, FilterError> {
        let mut filter = Filter { expression: expression.to_owned(), programs: HashMap::new() };
        filter.program(1)?;
        Ok(filter)
    }

    /// Does a packet of this link type (LINKTYPE_ number) pass?
    ///
    /// # Errors
    /// libpcap's own message, where the expression does not fit the link type.
    pub fn passes(&mut self, link_type: u32, packet: &[u8]) -> Result<bool, FilterError> {
        Ok(self.program(link_type)?.filter(packet))
    }

    fn program(&mut self, link_type: u32) -> Result<&BpfProgram, FilterError> {
        use std::collections::hash_map::Entry;
        match self.programs.entry(link_type) {
            Entry::Occupied(known) => Ok(known.into_mut()),
            Entry::Vacant(new) => {
                // LINKTYPE_RAW is the one number of those podtap reads that libpcap calls otherwise inside (DLT_RAW).
                let dlt = if link_type == 101 { 12 } else { i32::try_from(link_type).unwrap_or(-1) };
                let program = Capture::dead(Linktype(dlt))
                    .and_then(|capture| capture.compile(&self.expression, true))
                    .map_err(|error| FilterError {
                        expression: self.expression.clone(),
                        link_type,
                        reason: error.to_string(),
                    })?;
                Ok(new.insert(program))
            }
        }
    }
}
