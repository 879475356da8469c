// Memory that a workspace keeps from step to step, so that training does not pay for page faults again and again.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace splat {

// `count` numbers of a plain type T, 64-byte aligned. Growing discards the contents.
template <class T>
class Buffer {
public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { release(); }

    // At least `count` elements; throws std::bad_alloc.
    T* reserve(int64_t count) {
        if (count > capacity_) {
            release();
            const int64_t wanted = count + count / 8;  // a growing cloud must not reallocate at every step
            // Large buffers are read at random: huge pages spare most of the address translation.
            const int64_t bytes = wanted * static_cast<int64_t>(sizeof(T));
            const int64_t alignment = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 64;
            const int64_t rounded = (bytes + alignment - 1) / alignment * alignment;
            data_ = static_cast<T*>(std::aligned_alloc(static_cast<size_t>(alignment), static_cast<size_t>(rounded)));
            if (data_ == nullptr) throw std::bad_alloc();
#if defined(__linux__)
            if (alignment == HUGE_PAGE) madvise(data_, static_cast<size_t>(rounded), MADV_HUGEPAGE);
#endif
            capacity_ = wanted;
        }
        return data_;
    }
    void release() {
        std::free(data_);
        data_ = nullptr;
        capacity_ = 0;
    }
    void swap(Buffer& other) {
        std::swap(data_, other.data_);
        std::swap(capacity_, other.capacity_);
    }
    T* data() { return data_; }
    const T* data() const { return data_; }
    T& operator[](int64_t i) { return data_[i]; }
    const T& operator[](int64_t i) const { return data_[i]; }
    int64_t bytes() const { return capacity_ * static_cast<int64_t>(sizeof(T)); }

private:
    static constexpr int64_t HUGE_PAGE = 1 << 21;
    T* data_ = nullptr;
    int64_t capacity_ = 0;
};

}  // namespace splat
