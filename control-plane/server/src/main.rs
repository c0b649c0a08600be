//! The control plane: decides, signs, distributes.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    rap_control_plane::commands::main(rap_runtime::build!()).await
}
