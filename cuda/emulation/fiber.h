// Fibers: functions with stacks of their own on one operating-system thread, switched by hand.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <vector>

#if defined(__x86_64__) && !defined(EMULATION_PORTABLE)
#define EMULATION_ASSEMBLY
#else
#include <ucontext.h>
#endif

namespace emulation {

constexpr std::size_t STACK_BYTES = 128 << 10;

#if defined(EMULATION_ASSEMBLY)

// Saves the registers that a call must preserve on the running stack, stores its pointer, and goes on from another.
asm(R"(
.text
.local emulation_switch
.type emulation_switch, @function
emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emulation_switch, .-emulation_switch
)");
extern "C" void emulation_switch(void** from, void* to);

struct Fiber {
    void* stack_pointer = nullptr;
    std::vector<char> stack;

    void begin(void (*entry)()) {
        stack.resize(STACK_BYTES);
        auto top = (reinterpret_cast<std::uintptr_t>(stack.data() + stack.size()) & ~std::uintptr_t(15)) - 8;
        auto** slot = reinterpret_cast<void**>(top);  // after `ret`, the stack is aligned as after a call
        *--slot = reinterpret_cast<void*>(entry);
        for (int i = 0; i < 6; ++i) *--slot = nullptr;
        stack_pointer = slot;
    }
};

inline void switch_to(Fiber& from, Fiber& to) { emulation_switch(&from.stack_pointer, to.stack_pointer); }

#else

struct Fiber {
    ucontext_t context;
    std::vector<char> stack;

    void begin(void (*entry)()) {
        stack.resize(STACK_BYTES);
        getcontext(&context);
        context.uc_stack.ss_sp = stack.data();
        context.uc_stack.ss_size = stack.size();
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
};

inline void switch_to(Fiber& from, Fiber& to) { swapcontext(&from.context, &to.context); }

#endif

}  // namespace emulation
