//! A warning beside the answer of a call that was done.

use tonic::Response;
use tonic::metadata::MetadataValue;

/// Name of the response header.
const HEADER: &str = "rap-warning";

/// Its value: the change is committed, and the replica that made it could not put it in force or tell the others. They
/// find it by themselves.
const PUBLISH_PENDING: &str = "publish.pending";

/// Adds the warning to an answer.
pub fn warn<T>(answer: &mut Response<T>) {
    answer.metadata_mut().insert(HEADER, MetadataValue::from_static(PUBLISH_PENDING));
}

/// The warning of an answer, as a line to be shown.
pub fn warning<T>(answer: &Response<T>) -> Option<String> {
    let word = answer.metadata().get(HEADER)?.to_str().ok()?;
    Some(match word {
        PUBLISH_PENDING => {
            format!("warning: {word}: the change is committed; nodes and other replicas learn it later")
        }
        other => format!("warning: {other}"),
    })
}
