//! Compiles proto/rap/fabric/v1/*.proto with protox: no protoc on the build machine.

use std::path::PathBuf;

use prost::Message as _;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("..");
    let dir = root.join("rap/fabric/v1");
    println!("cargo::rerun-if-changed={}", dir.display());
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&dir)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();
    let descriptors = protox::compile(&files, [&root])?;
    let path = PathBuf::from(std::env::var("OUT_DIR")?).join("descriptors.bin");
    std::fs::write(&path, descriptors.encode_to_vec())?;
    // For rap-rpc, which makes the gRPC stubs of it.
    println!("cargo::metadata=descriptors={}", path.display());
    prost_build::Config::new().btree_map(["."]).compile_fds(descriptors)?;
    Ok(())
}
