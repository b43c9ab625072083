# SPDX-License-Identifier: MIT
# shellcheck shell=bash
#
# What the project's bash scripts share: messages, root, and Debian packages.
# Sourced, never run. The caller has set -euo pipefail.

# The name that messages carry.
PROGRAM=${PROGRAM:-${0##*/}}

say() {
    printf '%s: %s\n' "$PROGRAM" "$*" >&2
}

die() {
    say "$@"
    exit 1
}

have() {
    command -v "$1" >/dev/null 2>&1
}

# Runs a command as root: directly, or through sudo.
as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    elif have sudo; then
        sudo -- "$@"
    else
        say "this needs root: $*; run me as root, or install sudo, or have an administrator run it"
        return 1
    fi
}

# May we serve page faults that the kernel takes on a guest's memory? Ordinary users may not on most
# machines.
may_serve_faults() {
    [ "$(id -u)" -eq 0 ] || [ -w /dev/userfaultfd ] ||
        [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" = 1 ]
}

# apt as a script uses it: no questions, no progress bars, patience with another apt that runs.
apt_quiet() {
    as_root env DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 \
        apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root "$@"
}

# package_installed NAME
package_installed() {
    [ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$1" 2>/dev/null | cut -c1-2)" = ii ]
}

# package_known NAME: apt could install it
package_known() {
    local candidate
    candidate=$(LC_ALL=C apt-cache policy "$1" 2>/dev/null | sed -n 's/^  Candidate: //p')
    [ -n "$candidate" ] && [ "$candidate" != "(none)" ]
}

require_debian() {
    if ! have apt-get || ! have dpkg-query; then
        die "this machine has no apt: I install Debian's packages and know no other kind;" \
            "install what docs/testing.md lists by hand and build with meson"
    fi
}

# Fetches the package lists, once a run, however often it is asked to.
APT_UPDATED=no
apt_update_once() {
    local log
    [ "$APT_UPDATED" = no ] || return 0
    say "fetching the package lists (apt-get update)"
    log=$(mktemp)
    if ! apt_quiet update >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        say "apt-get update failed (its last lines are above): is there a network, and is" \
            "/etc/apt/sources.list right?"
        return 1
    fi
    rm -f "$log"
    APT_UPDATED=yes
}
