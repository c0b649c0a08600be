//! A new file in the migrations folder is a reason to compile again.

fn main() {
    println!("cargo:rerun-if-changed=../../migrations");
}
