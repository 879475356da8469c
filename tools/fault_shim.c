/* Fails, shortens or kills at the n-th call of one kind, for fault_server.py (LD_PRELOAD, then fault_arm()).
   write, fsync, rename and open (for writing) count where the file lies below the folder `under`; mmap counts everywhere;
   malloc counts blocks of at least LARGE bytes everywhere; core counts every block that libsplat_*.so asks for;
   files counts all calls that change files, those that make and remove names included. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { WRITE = 1, FSYNC = 2, RENAME = 4, OPEN = 8, MMAP = 16, MALLOC = 32, CORE = 64, NAMES = 128 };
enum { SHORT = -1, KILL = -2 };  // in place of an errno
#define LARGE 65537  /* smaller ones fail within NumPy, whose buffers of 8,192 numbers crash it then */

static const struct { const char *name; int calls; } KINDS[] = {
    {"write", WRITE}, {"fsync", FSYNC}, {"rename", RENAME}, {"open", OPEN}, {"mmap", MMAP}, {"malloc", MALLOC},
    {"core", CORE}, {"files", WRITE | FSYNC | RENAME | OPEN | NAMES}};

static int watched, code;  // watched: 0 while not armed
static long at;
static char under[PATH_MAX];
static atomic_long calls;
static uintptr_t core_begin, core_end;
static _Thread_local int from_core;

static int find_core(struct dl_phdr_info *info, size_t size, void *unused) {
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libsplat_") || strstr(info->dlpi_name, "probe")) return 0;
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const ElfW(Phdr) *part = &info->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && part->p_flags & PF_X) {
            core_begin = info->dlpi_addr + part->p_vaddr;
            core_end = core_begin + part->p_memsz;
        }
    }
    return size == 0 && unused;
}

/* Counts calls of `kind` from now on; the `number`-th (from 1; 0: none) meets `what`: an errno, SHORT or KILL. */
int fault_arm(const char *kind, long number, int what, const char *folder) {
    watched = 0;
    dl_iterate_phdr(find_core, NULL);
    snprintf(under, sizeof under, "%s", folder);
    at = number, code = what, calls = 0;
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; ++i)
        if (!strcmp(KINDS[i].name, kind)) watched = KINDS[i].calls;
    return watched;
}
/* Ends that; how many calls there were. */
long fault_disarm(void) {
    watched = 0;
    return calls;
}

/* Whether this call is to fail; errno is set then. SHORT fails nothing here. */
static int fails(int call) {
    if (!(watched & call) || atomic_fetch_add(&calls, 1) + 1 != at) return 0;
    if (code == KILL) kill(getpid(), SIGKILL);
    errno = code;
    return 1;
}

static int named(const char *path) {
    return path && (*path != '/' || !strncmp(path, under, strlen(under)));
}
static int ours(int file) {
    char link[64], name[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, name, sizeof name - 1);
    if (length < 0) return 0;
    name[length] = 0;
    return !strncmp(name, under, strlen(under));
}

#define REAL(result, name, ...) ((result(*)(__VA_ARGS__))dlsym(RTLD_NEXT, #name))

/* How many bytes a write may take: all, half at the n-th when it is to be SHORT, or -1 with errno. */
static ssize_t room(int file, size_t size) {
    if (!(watched & WRITE) || !ours(file) || !fails(WRITE)) return size;
    return code != SHORT ? -1 : size > 1 ? (ssize_t)(size / 2) : (ssize_t)size;
}
ssize_t write(int file, const void *data, size_t size) {
    ssize_t fits = room(file, size);
    return fits < 0 ? -1 : REAL(ssize_t, write, int, const void *, size_t)(file, data, fits);
}
ssize_t pwrite(int file, const void *data, size_t size, off_t where) {
    ssize_t fits = room(file, size);
    return fits < 0 ? -1 : REAL(ssize_t, pwrite, int, const void *, size_t, off_t)(file, data, fits, where);
}
ssize_t pwrite64(int file, const void *data, size_t size, off_t where) {
    return pwrite(file, data, size, where);
}
ssize_t writev(int file, const struct iovec *parts, int count) {
    size_t size = count ? parts[0].iov_len : 0;
    ssize_t fits = room(file, size);
    if (fits < 0) return -1;
    if ((size_t)fits < size) return REAL(ssize_t, write, int, const void *, size_t)(file, parts[0].iov_base, fits);
    return REAL(ssize_t, writev, int, const struct iovec *, int)(file, parts, count);
}
int fsync(int file) {
    if (watched & FSYNC && ours(file) && fails(FSYNC)) return -1;
    return REAL(int, fsync, int)(file);
}
int rename(const char *from, const char *to) {
    if (named(to) && fails(RENAME)) return -1;
    return REAL(int, rename, const char *, const char *)(from, to);
}
int unlink(const char *path) {
    if (named(path) && fails(NAMES)) return -1;
    return REAL(int, unlink, const char *)(path);
}
int mkdir(const char *path, mode_t mode) {
    if (named(path) && fails(NAMES)) return -1;
    return REAL(int, mkdir, const char *, mode_t)(path, mode);
}
int rmdir(const char *path) {
    if (named(path) && fails(NAMES)) return -1;
    return REAL(int, rmdir, const char *)(path);
}
#define OPENING(name)                                                                                       \
    int name(const char *path, int flags, ...) {                                                            \
        va_list more;                                                                                       \
        va_start(more, flags);                                                                              \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0;                             \
        va_end(more);                                                                                       \
        if (watched & OPEN && (flags & O_ACCMODE) != O_RDONLY && named(path) && fails(OPEN)) return -1;     \
        return REAL(int, name, const char *, int, ...)(path, flags, mode);                                  \
    }
OPENING(open)
OPENING(open64)

#define MAPPING(name)                                                                                       \
    void *name(void *where, size_t size, int protection, int flags, int file, off_t offset) {               \
        if (fails(MMAP)) return MAP_FAILED;                                                                 \
        return REAL(void *, name, void *, size_t, int, int, int, off_t)(where, size, protection, flags, file, offset); \
    }
MAPPING(mmap)
MAPPING(mmap64)

/* glibc's own names: dlsym() itself may allocate. */
void *__libc_malloc(size_t);
void *__libc_calloc(size_t, size_t);
void *__libc_realloc(void *, size_t);
void *__libc_memalign(size_t, size_t);

static int core_calls(const void *caller) {
    return from_core || ((uintptr_t)caller >= core_begin && (uintptr_t)caller < core_end);
}
static int no_memory(size_t size, const void *caller) {
    if (!watched) return 0;
    if (watched & CORE) return core_calls(caller) && fails(CORE);
    return size >= LARGE && fails(MALLOC);
}
#define CALLER __builtin_return_address(0)
void *malloc(size_t size) { return no_memory(size, CALLER) ? NULL : __libc_malloc(size); }
void *calloc(size_t count, size_t size) { return no_memory(count * size, CALLER) ? NULL : __libc_calloc(count, size); }
void *realloc(void *old, size_t size) { return no_memory(size, CALLER) ? NULL : __libc_realloc(old, size); }
void *memalign(size_t alignment, size_t size) { return no_memory(size, CALLER) ? NULL : __libc_memalign(alignment, size); }
void *aligned_alloc(size_t alignment, size_t size) { return no_memory(size, CALLER) ? NULL : __libc_memalign(alignment, size); }
int posix_memalign(void **found, size_t alignment, size_t size) {
    if (no_memory(size, CALLER)) return ENOMEM;
    return (*found = __libc_memalign(alignment, size)) ? 0 : ENOMEM;
}

/* C++ operators new throw in libstdc++; here they only tell malloc for whom it works. */
#define NEW(name, ...)                                        \
    void *name(__VA_ARGS__) {                                 \
        static void *(*real)(__VA_ARGS__);                    \
        if (!real) real = dlsym(RTLD_NEXT, #name);            \
        int before = from_core;                               \
        from_core = watched & CORE && core_calls(CALLER);     \
        void *found = real
#define WEN from_core = before; return found; }
NEW(_Znwm, size_t size)(size); WEN
NEW(_Znam, size_t size)(size); WEN
NEW(_ZnwmRKSt9nothrow_t, size_t size, const void *tag)(size, tag); WEN
NEW(_ZnwmSt11align_val_t, size_t size, size_t alignment)(size, alignment); WEN
