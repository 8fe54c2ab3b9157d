//! Which secrets are taken out of events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which secrets are taken out of events before they are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// Names of URL query parameters whose values are replaced by `REDACTED`, besides those that sign or authorise
    /// requests to AWS, Google Cloud and Azure, which always are. Case does not matter.
    pub query_keys: Vec<String>,
}
