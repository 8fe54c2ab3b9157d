//! What is wrong with a message: a closed set of names, for `podtap.http.anomaly`.
//!
//! Each is a way of writing that recipients read differently, which is what request smuggling lives on, or that the RFC
//! forbids. podtap reads such a message as the RFC says, and marks it.

/// Declares the anomalies: names and what they mean.
macro_rules! anomalies {
    ($(#[doc = $doc:literal] $variant:ident = $name:literal;)+) => {
        /// Something that is wrong with a message.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Anomaly {
            $(#[doc = $doc] $variant),+
        }

        impl Anomaly {
            /// All of them, in the order in which `podtap.http.anomaly` lists them.
            pub const ALL: &[Anomaly] = &[$(Anomaly::$variant),+];

            /// As it stands in `podtap.http.anomaly`.
            pub fn name(self) -> &'static str {
                match self {
                    $(Anomaly::$variant => $name),+
                }
            }

            /// What it means, in one sentence.
            pub fn doc(self) -> &'static str {
                match self {
                    $(Anomaly::$variant => $doc.trim_ascii()),+
                }
            }
        }
    };
}

anomalies! {
    /// A line ends in LF without CR (RFC 9112 section 2.2).
    BareLf = "bare_lf";
    /// A CR stands in a head where no LF follows (RFC 9112 section 2.2).
    BareCr = "bare_cr";
    /// A header field is folded over several lines (RFC 9112 section 5.2); it is read as one line.
    ObsFold = "obs_fold";
    /// White space stands between a field's name and its colon (RFC 9112 section 5.1); of fields that podtap reads.
    SpaceBeforeColon = "space_before_colon";
    /// White space that does not belong there in a start line (RFC 9112 section 3).
    SpaceInStartLine = "space_in_start_line";
    /// A request of HTTP/1.1 without Host (RFC 9112 section 3.2).
    MissingHost = "missing_host";
    /// More than one Host (RFC 9112 section 3.2); the first is taken.
    RepeatedHost = "repeated_host";
    /// A Content-Length that is no number, or too large a one (RFC 9112 section 6.3); the message has no known end.
    InvalidContentLength = "invalid_content_length";
    /// The same Content-Length more than once (RFC 9112 section 6.3).
    RepeatedContentLength = "repeated_content_length";
    /// Content-Lengths that differ (RFC 9112 section 6.3); the message has no known end.
    ConflictingContentLength = "conflicting_content_length";
    /// Content-Length and Transfer-Encoding; the latter counts (RFC 9112 section 6.3).
    ContentLengthAndTransferEncoding = "content_length_and_transfer_encoding";
    /// Transfer-Encoding in a message of HTTP/1.0 (RFC 9112 section 6.1).
    TransferEncodingInHttp10 = "transfer_encoding_in_http_1_0";
    /// A Transfer-Encoding whose last coding is not chunked (RFC 9112 section 6.3); the message has no known end.
    ChunkedIsNotLast = "chunked_is_not_last";
    /// The chunked coding more than once (RFC 9112 section 6.1).
    RepeatedChunked = "repeated_chunked";
    /// Something in a chunked body that is no chunk (RFC 9112 section 7.1); decoding goes on with the next message.
    InvalidChunk = "invalid_chunk";
    /// A response of status 1xx, 204 or 205 that declares content (RFC 9112 section 6.3, RFC 9110 section 15.3.6).
    ContentNotAllowed = "content_not_allowed";
    /// 101 to a request that asked for no other protocol (RFC 9110 section 15.2.2).
    UnaskedUpgrade = "unasked_upgrade";
}

/// A set of anomalies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Anomalies(u32);

impl Anomalies {
    pub(crate) fn note(&mut self, anomaly: Anomaly) {
        self.0 |= 1 << anomaly as u8;
    }

    pub(crate) fn note_if(&mut self, condition: bool, anomaly: Anomaly) {
        self.0 |= u32::from(condition) << anomaly as u8;
    }

    pub(crate) fn add(&mut self, other: Anomalies) {
        self.0 |= other.0;
    }

    pub(crate) fn has(self, anomaly: Anomaly) -> bool {
        self.0 & (1 << anomaly as u8) != 0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Names, joined by commas.
    pub(crate) fn names(self) -> String {
        let noted = Anomaly::ALL.iter().filter(|&&anomaly| self.has(anomaly));
        noted.map(|anomaly| anomaly.name()).collect::<Vec<_>>().join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_written_in_the_order_of_declaration() {
        let mut anomalies = Anomalies::default();
        assert_eq!((anomalies.is_empty(), anomalies.names()), (true, String::new()));
        anomalies.note(Anomaly::UnaskedUpgrade);
        anomalies.note_if(true, Anomaly::BareLf);
        anomalies.note_if(false, Anomaly::BareCr);
        assert_eq!((anomalies.is_empty(), anomalies.names().as_str()), (false, "bare_lf,unasked_upgrade"));
    }

    #[test]
    fn names_are_unique_and_fit_the_set() {
        let names: std::collections::HashSet<_> = Anomaly::ALL.iter().map(|anomaly| anomaly.name()).collect();
        assert_eq!(names.len(), Anomaly::ALL.len());
        assert!(Anomaly::ALL.len() <= 32);
    }
}
