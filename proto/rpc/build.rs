//! Generates the gRPC stubs of every service of `rap.fabric.v1` over rap-wire's messages.

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // rap-wire's build script compiled the .proto files and says where the result is.
    let path = std::env::var("DEP_RAP_WIRE_DESCRIPTORS")?;
    println!("cargo::rerun-if-changed={path}");
    let descriptors = prost_types::FileDescriptorSet::decode(std::fs::read(path)?.as_slice())?;
    tonic_prost_build::configure()
        .extern_path(".rap.fabric.v1", "::rap_wire::v1")
        .compile_fds(descriptors)?;
    Ok(())
}
