//! Which events there are.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which events there are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Events {
    /// Publish an event for each TCP connection too, when it has ended: how it was opened and closed, what was sent,
    /// sent again and lost. Also for those that were refused, and those that no decoder recognised.
    pub connections: bool,
}
