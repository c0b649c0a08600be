# The image that every part runs: a base and the programs of this repository. Sourced by scripts/smoke.

image=rap-fabric:smoke
packages=postgresql,iproute2,iputils-ping,ca-certificates,socat

# Programs run where their C library is at least as new as the one they were linked with.
suite() {
  local name
  name=$(. /etc/os-release && [ "${ID:-}" = debian ] && echo "${VERSION_CODENAME:-}")
  echo "${name:-bookworm}"
}

# Sets `base` to an image: pulled where that works, made with debootstrap elsewhere.
find_base() {
  local pulled=debian:$(suite)-slim
  if [[ "$engine" != *'for this run'* ]] && timeout 120 docker pull --quiet "$pulled" >/dev/null 2>&1; then
    base=$pulled
    return
  fi
  base=rap-smoke-base:$(suite)
  local archive=$work/base-$(suite).tar
  if [ ! -s "$archive" ]; then
    echo "-- making a base image with debootstrap ($(suite))"
    command -v debootstrap >/dev/null 2>&1 || apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    rm -rf "$work/base"
    debootstrap --variant=minbase --include="$packages" "$(suite)" "$work/base" >"$work/debootstrap.log"
    rm -rf "$work/base/var/cache/apt" "$work/base/var/lib/apt/lists" "$work/base/usr/share/doc" "$work/base/usr/share/locale"
    # The packages made a first cluster; the smoke makes its own.
    rm -rf "$work/base/var/lib/postgresql" "$work/base/etc/postgresql"
    tar -C "$work/base" -cf "$archive.new" .
    mv "$archive.new" "$archive"
    rm -rf "$work/base"
  fi
  docker import "$archive" "$base" >/dev/null
}

make_image() {
  local base network=default context=$work/context program
  find_base
  rm -rf "$context"
  mkdir -p "$context/bin"
  for program in rap-control-plane rapctl rap-node-agent rap-dataplane; do
    install -m 0755 "$target/$profile/$program" "$context/bin/$program"
    strip --strip-debug "$context/bin/$program" 2>/dev/null || true
  done
  install -m 0755 scripts/smoke.d/rap-postgres scripts/smoke.d/rap-healthy "$context/bin/"
  install -m 0644 scripts/smoke.d/Dockerfile "$context/"
  [[ "$base" == rap-smoke-base:* ]] && network=none
  echo "-- image $image from $base"
  DOCKER_BUILDKIT=0 docker build --quiet --network "$network" --build-arg "BASE=$base" --tag "$image" "$context" >/dev/null 2>"$work/build.log" || { tail -n 20 "$work/build.log"; return 1; }
  rm -rf "$context"
}
