//! `rap-node-agent`: the host's agent.

fn main() -> std::process::ExitCode {
    rap_node_agent::main(rap_runtime::build!())
}
