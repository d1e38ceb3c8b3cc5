/* The simulation's host: Windows. */
#include "os/sim_host.h"

#include "os/win32.h"

void iocp__sim_host_sleep(uint32_t *word)
{
    uint32_t zero = 0;
    WaitOnAddress(word, &zero, sizeof(*word), INFINITE);
}

void iocp__sim_host_wake(uint32_t *word)
{
    WakeByAddressSingle(word);
}

void iocp__sim_host_pin(void)
{
    DWORD_PTR allowed = 0;
    DWORD_PTR system = 0;
    if (GetProcessAffinityMask(GetCurrentProcess(), &allowed, &system) && allowed)
        SetProcessAffinityMask(GetCurrentProcess(), allowed & (~allowed + 1));
}
