//! Which secrets are taken out of events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which secrets are taken out of events before they are published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redaction {
    /// Names of URL query parameters whose values are replaced by `REDACTED`, besides those that always are: `access_token`,
    /// `api_key`, `apikey`, `api-key`, `auth_token`, `client_secret`, `id_token`, `jsessionid`, `jwt`, `passwd`, `password`,
    /// `phpsessid`, `pwd`, `refresh_token`, `secret`, `sessionid`, `token`, and those that sign or authorise requests to AWS,
    /// Google Cloud and Azure. A name stands for the whole key; case does not matter.
    pub query_keys: Vec<String>,
}
