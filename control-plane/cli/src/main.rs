//! `rapctl`: the operator's command line.

fn main() -> std::process::ExitCode {
    rapctl::main(rap_runtime::build!())
}
