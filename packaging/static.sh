#!/bin/sh
# Builds a guest's program as one static file, and an OCI layout with nothing else in it, without a container engine:
#
#   packaging/static.sh coffer-storage-initializer out
#   packaging/static.sh coffer-objects out
#
# `out/PROGRAM` is the file, `out/PROGRAM.oci` the layout, for `skopeo copy oci:out/PROGRAM.oci:latest docker://…` or
# `coffer image seal`. COFFER_PROFILE=dev builds faster and larger. Needs umoci for the layout.
set -eu
program=$1
out=$2
case $program in
    coffer-storage-initializer | coffer-objects) ;;
    *) echo "expected coffer-storage-initializer or coffer-objects; found $program" >&2; exit 2 ;;
esac
root=$(cd "$(dirname "$0")/.." && pwd)
profile=${COFFER_PROFILE:-release}
target=$(rustc -vV | sed -n 's/^host: //p')
folder=$profile
[ "$profile" = dev ] && folder=debug
built=${CARGO_TARGET_DIR:-$root/target}
RUSTFLAGS="-C target-feature=+crt-static" cargo build --manifest-path "$root/Cargo.toml" --locked --profile "$profile" \
    --target "$target" --package "$program"
mkdir -p "$out"
cp "$built/$target/$folder/$program" "$out/$program"
if ! command -v umoci > /dev/null; then
    echo "$out/$program is ready; umoci is not installed, so no layout was made" >&2
    exit 0
fi
rm -rf "$out/$program.oci" "$out/$program.root"
mkdir "$out/$program.root"
cp "$out/$program" "$out/$program.root/program"
umoci init --layout "$out/$program.oci"
umoci new --image "$out/$program.oci:latest"
umoci insert --rootless --image "$out/$program.oci:latest" "$out/$program.root/program" /program
umoci config --image "$out/$program.oci:latest" --config.entrypoint /program
rm -rf "$out/$program.root"
echo "$out/$program and $out/$program.oci:latest are ready"
