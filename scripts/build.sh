# How the scripts build and find the programs. Sourced; `root` is set. Sets `target` and `profile`, offers `build`.
# RAP_PROFILE: optimised, the default; release, as packages are built, with LTO; debug, with test hooks.

profile=${RAP_PROFILE:-optimised}
target=${CARGO_TARGET_DIR:-$root/target}

# rustup puts cargo where a non-login shell does not look.
command -v cargo >/dev/null 2>&1 || export PATH="$HOME/.cargo/bin:$PATH"

# The named programs, in one invocation: what they share is built once.
build() {
  local name flags=(--quiet --locked --profile "${profile/#debug/dev}")
  command -v cargo >/dev/null 2>&1 || { echo 'cargo is missing: install Rust from https://rustup.rs' >&2 && return 2; }
  [ ! -t 2 ] || flags=("${flags[@]:1}")
  for name in "$@"; do flags+=(--bin "$name"); done
  # What `PROGRAM version` says. Without git, or outside of a checkout, the commit is not known.
  RAP_BUILD_COMMIT=$(git -C "$root" describe --always --exclude '*' --abbrev=12 --dirty 2>/dev/null) && export RAP_BUILD_COMMIT || unset RAP_BUILD_COMMIT
  RAP_BUILD_DATE=$(git -C "$root" show -s --format=%cI HEAD 2>/dev/null) && export RAP_BUILD_DATE || unset RAP_BUILD_DATE
  echo "-- building, profile $profile (the first time takes some minutes)" >&2
  cargo build --manifest-path "$root/Cargo.toml" "${flags[@]}" >&2
}
