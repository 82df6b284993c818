#!/bin/bash
# Makes the base image that examples/shop builds on, without any public registry: Debian 12 with
# Python and Node.js from Debian's own packages. Prints the image's name.
#
# The name's host does not exist, so no engine can ask it: the image is found in the engine's local
# store or not at all. The file system is made once and kept as a tarball; importing it takes
# seconds, and nothing is done when the engine has the image.
. "$(dirname "${BASH_SOURCE[0]}")/env.sh"

NAME=fairlead.local/base/debian
TAG=12
OURS=$SERVICES/base
ROOTFS=$OURS/debian-12.tar

DOCKER_HOST=$("$HERE/docker.sh")
SOCKET=${DOCKER_HOST#unix://}
[ -S "$SOCKET" ] || fail "only an engine on a unix socket can be given the image, not $DOCKER_HOST"
engine() { curl -fsS --unix-socket "$SOCKET" "$@"; }

only_one_in "$OURS"
if engine "http://engine/images/$NAME:$TAG/json" >/dev/null 2>&1; then
  echo "$NAME:$TAG"
  exit 0
fi

if [ ! -f "$ROOTFS" ]; then
  [ "$(id -u)" = 0 ] || fail "only root can make $ROOTFS; run 'sudo $HERE/base-images.sh' once"
  need wget # debootstrap fetches with it
  if ! command -v debootstrap >/dev/null; then
    say "unpacking debootstrap"
    unpack_debs "$OURS/debootstrap" debootstrap
    export DEBOOTSTRAP_DIR=$OURS/debootstrap/usr/share/debootstrap
    PATH=$PATH:$OURS/debootstrap/usr/sbin
  fi
  say "making a Debian 12 file system with Python and Node.js (a minute or two)"
  work=$OURS/rootfs
  rm -rf "$work"
  debootstrap --variant=minbase --include=ca-certificates,python3,nodejs \
    bookworm "$work" "$(debian_mirror)" > "$OURS/debootstrap.log" 2>&1 ||
    { tail -5 "$OURS/debootstrap.log" >&2; fail "debootstrap failed; see $OURS/debootstrap.log"; }
  # What only apt's cache, a manual reader or a debugger of this build needs stays out.
  rm -rf "$work"/var/cache/apt/* "$work"/var/lib/apt/lists/* "$work"/var/log/* \
    "$work"/usr/share/{man,info,locale} "$work"/debootstrap
  find "$work/usr/share/doc" -type f ! -name copyright -delete
  tar --create --numeric-owner --sort=name --one-file-system \
    --exclude=./dev/* --exclude=./proc/* --exclude=./sys/* \
    --directory "$work" --file "$ROOTFS.part" .
  mv "$ROOTFS.part" "$ROOTFS"
  rm -rf "$work"
fi

say "importing $NAME:$TAG into the engine"
engine --request POST --header 'Content-Type: application/x-tar' --upload-file "$ROOTFS" \
  --output /dev/null \
  "http://engine/images/create?fromSrc=-&repo=$NAME&tag=$TAG&changes=CMD%20%5B%22%2Fbin%2Fbash%22%5D"
engine "http://engine/images/$NAME:$TAG/json" >/dev/null || fail "the engine did not take the image"
echo "$NAME:$TAG"
