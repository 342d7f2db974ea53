/* Keeps fork() of the host from copying locks that somebody holds.
 *
 * The child has one thread, but every lock as it stood: one that another thread held then is held for ever. Our own are
 * never used by a child (inherited handles fail), glibc takes care of malloc's, but Swift's runtime has locks of its own
 * (it makes types when they are first needed), and so have OpenSSL and libcurl. So whoever runs our code is inside a
 * gate, and leaves it while it waits for something; fork() waits until nobody is inside. */
#ifndef CSFORK_H
#define CSFORK_H

/* Around all of our code: threads of our own, and calls of the C interface. May be nested. */
void cs_fork_enter(void);
void cs_fork_leave(void);

/* Around what may take long and touches no lock but the kernel's; errno stays. Nothing to do outside. */
int cs_fork_pause(void);
void cs_fork_resume(int depth);

/* In the midst of what computes for long: lets a fork that waits go first; costs next to nothing when none does.
 *
 * Not where a child would meet a lock that this thread holds: within what makes a static value, or a call-back of OpenSSL or
 * libcurl. Nor with a plain mutex locked: whoever waits for that is inside, so the fork would wait for both. */
void cs_fork_yield(void);

/* How long a fork waits; 200 ms unless a test says otherwise. */
void cs_fork_limit(int milliseconds);

#endif
