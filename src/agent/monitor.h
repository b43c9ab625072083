/* SPDX-License-Identifier: MIT */
/*
 * QEMU's monitor as a place to set the target: for libvirt, which knows the balloon and
 * not us.
 *
 *   balloon         sets the target, and is refused if the host lacks the memory; the
 *                   guest's balloon is then asked to follow
 *   query-balloon   "actual" is the total, what the domain owns
 *   BALLOON_CHANGE  QEMU sends what the guest's balloon leaves the guest; soon after
 *                   we send the total, so that what was heard last is the truth
 *
 * The human monitor's commands stay QEMU's: they show and move the guest's balloon.
 */
#ifndef BALLAST_AGENT_MONITOR_H
#define BALLAST_AGENT_MONITOR_H

/* Takes the commands over, once, on QEMU's main thread when the domain is built.
 * -ENOSYS if this QEMU lacks what that takes; -EAGAIN if there is no thread. */
int monitor_take_over(void);

#endif
