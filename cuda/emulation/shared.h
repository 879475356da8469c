// Shared arrays that remember who touched which element and when, and complain of races and reads before writes.
#pragma once

#include "block.h"

namespace emulation {

// Who touched an element, and when: block epoch, and within a warp its warp epoch.
struct Access {
    std::uint32_t serial = 0;  // block; anything older is forgotten
    std::uint32_t epoch = 0, warp_epoch = 0;
    int thread = -1;  // -2: several of one warp, -3: of several warps
    int warp = -1;
    bool atomic = false;

    bool current() const { return serial == block.serial && epoch == block.epoch; }
    bool conflicts() const {
        if (!current() || thread == self->number) return false;
        return !(thread != -3 && warp == self->number / 32 && warp_epoch < self->warp_epoch);
    }
    void note(bool is_atomic) {
        const int own_warp = self->number / 32;
        if (!current()) {
            *this = {block.serial, block.epoch, self->warp_epoch, self->number, own_warp, is_atomic};
            return;
        }
        if (thread != self->number) thread = (warp == own_warp && thread != -3) ? -2 : -3;
        if (warp_epoch < self->warp_epoch) warp_epoch = self->warp_epoch;
        atomic = atomic && is_atomic;
    }
    void set(bool is_atomic) { *this = {block.serial, block.epoch, self->warp_epoch, self->number, self->number / 32, is_atomic}; }
};

template <class T>
struct Element {
    T value;
    Access written, read;
};

// One element of a shared array, as an expression.
template <class T>
class Reference {
   public:
    Reference(Element<T>& element, const char* name, std::size_t index) : e(element), name(name), index(index) {}

    operator T() const {
        if (e.written.serial != block.serial) complain("is read before it is written");
        if (e.written.conflicts()) complain("is read while another thread writes it, without a barrier between");
        e.read.note(false);
        return e.value;
    }
    Reference& operator=(T value) {
        check_write();
        e.written.set(false);
        e.value = value;
        return *this;
    }
    Reference& operator=(const Reference& other) { return *this = static_cast<T>(other); }
    Reference& operator+=(T value) { return *this = static_cast<T>(*this) + value; }
    const Reference* operator&() const { return this; }

    T atomic_add(T value) const {
        if (e.written.serial != block.serial) complain("is read before it is written");
        if (!e.written.atomic && e.written.conflicts()) complain("is changed while another thread writes it");
        if (e.read.conflicts()) complain("is changed while another thread reads it, without a barrier between");
        const bool only_atomics = !e.written.current() || e.written.atomic;
        if (e.written.current())
            e.written.note(true), e.written.atomic = only_atomics;
        else
            e.written.set(true);
        const T before = e.value;
        e.value = before + value;
        return before;
    }

   private:
    void check_write() const {
        if (e.written.conflicts()) complain("is written by two threads without a barrier between");
        if (e.read.conflicts()) complain("is written while another thread reads it, without a barrier between");
    }
    [[noreturn]] void complain(const char* what) const {
        fail(std::string("shared ") + name + "[" + std::to_string(index) + "] " + what);
    }

    Element<T>& e;
    const char* name;
    std::size_t index;
};

template <class T, std::size_t N>
class Shared {
   public:
    explicit Shared(const char* name) : name(name), elements(N) {}

    template <class I>
    Reference<T> operator[](I index) {
        const long long i = static_cast<long long>(index);
        if (i < 0 || i >= static_cast<long long>(N))
            fail(std::string("shared ") + name + "[" + std::to_string(i) + "] is out of bounds (" + std::to_string(N) + ")");
        return Reference<T>(elements[i], name, i);
    }

   private:
    const char* name;
    std::vector<Element<T>> elements;
};

}  // namespace emulation
