//! `rap-dataplane`: one process per membership that moves its packets.

fn main() -> std::process::ExitCode {
    rap_dataplane::main(rap_runtime::build!())
}
