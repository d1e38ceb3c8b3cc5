/* What the simulation asks of the system that it runs on: a word to sleep on, and one processor. */
#ifndef IOCP_OS_SIM_HOST_H
#define IOCP_OS_SIM_HOST_H

#include <stdint.h>

/* Sleeps while the word is 0, and may return for nothing; lets one sleeper go. */
void iocp__sim_host_sleep(uint32_t *word);
void iocp__sim_host_wake(uint32_t *word);

/* Keeps this thread, and those that it starts, on one processor, where that is possible: they take
 * turns, which is a switch there, and a wake from one processor to another elsewhere. */
void iocp__sim_host_pin(void);

#endif
