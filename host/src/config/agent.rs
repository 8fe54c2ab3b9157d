//! Who this podtap is.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Who this podtap is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Agent {
    /// Part of every event's `id`: two agents that see the same packets then give different ids. Leave it empty where
    /// the same packets are to give the same ids.
    pub id: String,
    /// Fields added to the `resource` of every event, such as `service.name: shop`. One whose value is empty, as where a pod
    /// lacks the label that it is from, is left out.
    pub resource: BTreeMap<String, String>,
}
