/* What keeps libcurl and OpenSSL from the process that they are guests in: its exit, its forks, its environment. */
#ifndef CSGUEST_H
#define CSGUEST_H

/* Prepares OpenSSL and libcurl, once; safe to call at any time, from any thread. */
void cs_guest_initialize(void);

/* Ends what OpenSSL keeps of the calling thread, which uses it no more. Left to the end of the thread it would happen, under a
 * lock of OpenSSL's, where no fork waits for it. */
void cs_guest_end_thread(void);

/* A socket that programs started by the host do not inherit, and that a forked child closes. -1: errno. */
int cs_guest_open_socket(int family, int type, int protocol);
/* Ends the connection for the other side as well where somebody still has a copy of the descriptor. */
int cs_guest_close_socket(int socket);

#endif
