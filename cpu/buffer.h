// Memory that a workspace keeps from step to step, so that training does not pay for page faults again and again.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>

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
            const int64_t bytes = (wanted * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
            data_ = static_cast<T*>(std::aligned_alloc(64, static_cast<size_t>(bytes)));
            if (data_ == nullptr) throw std::bad_alloc();
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
    T* data_ = nullptr;
    int64_t capacity_ = 0;
};

}  // namespace splat
