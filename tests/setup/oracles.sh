#!/bin/bash
# Brings independent tools that judge what Fairlead makes: cosign 2 and 3, crane, oras, skopeo.
# Prints the folder that holds them, as cosign2, cosign3, crane, oras and skopeo.
#
# They are Debian's packages of newer releases, unpacked and not installed. Each is checked against
# the SHA-256 in the package list of its release; the mirror is the one that apt uses here.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

OURS=$SERVICES/oracles
BIN=$OURS/bin
[ -x "$BIN/skopeo" ] && { echo "$BIN"; exit 0; }
only_one_in "$OURS"
[ -x "$BIN/skopeo" ] && { echo "$BIN"; exit 0; }

command -v dpkg >/dev/null || fail "the programs come as Debian packages, and this machine has no dpkg"
need curl xz
ARCH=$(dpkg --print-architecture)
MIRROR=$(debian_mirror)
cd "$OURS"

# list RELEASE: fetches the release's list of packages.
list() { curl -fsS "$MIRROR/dists/$1/main/binary-$ARCH/Packages.xz" | xz -dc > "packages.$1"; }

# unpack RELEASE FOLDER PACKAGE…
unpack() {
  local release=$1 into=$2 package file sum
  shift 2
  mkdir -p "$into"
  for package in "$@"; do
    read -r file sum < <(awk -v p="$package" '
      /^Package: / { ours = ($2 == p) }
      ours && /^Filename: / { file = $2 }
      ours && /^SHA256: / { print file, $2; exit }' "packages.$release") ||
      fail "Debian's $release has no package $package"
    curl -fsS -o package.deb "$MIRROR/$file"
    echo "$sum  package.deb" | sha256sum -c --quiet >&2 || fail "$file is not what its list says"
    dpkg -x package.deb "$into"
    rm package.deb
  done
}

say "unpacking cosign 2 and 3, crane, oras and skopeo"
list trixie
list sid
unpack trixie two cosign
unpack sid three cosign crane oras skopeo
# Today's skopeo wants newer libraries than this machine may have: it gets them, and their loader.
unpack sid libraries libc6 libgpgme45 libsqlite3-0 libassuan9 libgpg-error0 libgcc-s1
rm packages.*

mkdir -p "$BIN"
ln -sf "$OURS/two/usr/bin/cosign" "$BIN/cosign2"
ln -sf "$OURS/three/usr/bin/cosign" "$BIN/cosign3"
ln -sf "$OURS/three/usr/bin/crane" "$BIN/crane"
ln -sf "$OURS/three/usr/bin/oras" "$BIN/oras"
loader=$(find "$OURS/libraries" -name 'ld-linux-*.so.*' | head -1)
[ -n "$loader" ] || fail "Debian's libc6 brought no loader"
printf '#!/bin/sh\nexec %s --library-path %s %s "$@"\n' \
  "$loader" "$(dirname "$(find "$OURS/libraries" -name libgpgme.so.45 | head -1)")" \
  "$OURS/three/usr/bin/skopeo" > "$BIN/skopeo.part"
chmod +x "$BIN/skopeo.part"
"$BIN/skopeo.part" --version >&2
mv "$BIN/skopeo.part" "$BIN/skopeo"
echo "$BIN"
