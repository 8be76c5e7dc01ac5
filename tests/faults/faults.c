/* Makes the n-th call of one kind fail, for the tests of what a program does then.
 *
 * Loaded with LD_PRELOAD. FAULT_CALL names the kind, FAULT_NUMBER says which call of it fails
 * (from 1), FAULT_ERROR with which errno; FAULT_ON, if set, lets all later calls fail too. With
 * FAULT_COUNTS, lines of kind and number of calls are appended to that file at the end. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>
#include <pthread.h>

enum kind { READ, WRITE, SYNC, RENAME, UNLINK, CREATE, OPEN, STAT, SPAWN, THREAD, KINDS };
static const char *const names[KINDS] = {"read",   "write", "sync",  "rename", "unlink",
                                         "create", "open",  "stat",  "spawn",  "thread"};
static atomic_long calls[KINDS];
static int chosen = -1, error_number, goes_on;
static long number;
static const char *counts;

__attribute__((constructor)) static void begin(void)
{
    const char *call = getenv("FAULT_CALL");
    for (int kind = 0; call && kind < KINDS; kind++)
        if (!strcmp(call, names[kind]))
            chosen = kind;
    if (getenv("FAULT_NUMBER"))
        number = atol(getenv("FAULT_NUMBER"));
    if (getenv("FAULT_ERROR"))
        error_number = atoi(getenv("FAULT_ERROR"));
    goes_on = getenv("FAULT_ON") != NULL;
    counts = getenv("FAULT_COUNTS");
}

__attribute__((destructor)) static void end(void)
{
    FILE *file = counts ? fopen(counts, "a") : NULL;
    if (!file)
        return;
    for (int kind = 0; kind < KINDS; kind++)
        fprintf(file, "%s %ld\n", names[kind], atomic_load(&calls[kind]));
    fclose(file);
}

static int fails(enum kind kind)
{
    long now = atomic_fetch_add(&calls[kind], 1) + 1;
    if ((int)kind != chosen || now < number || (now > number && !goes_on))
        return 0;
    errno = error_number;
    return 1;
}

/* Only of regular files: libraries that read from a child's pipe are not asked. */
static int read_fails(int fd)
{
    struct stat found;
    return fstat(fd, &found) == 0 && S_ISREG(found.st_mode) && fails(READ);
}

/* The next function of this name. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(kind, result, failed, name, parameters, arguments)                                    \
    result name parameters                                                                         \
    {                                                                                              \
        return fails(kind) ? failed : REAL(name) arguments;                                        \
    }
#define WRAP_READ(name, parameters, arguments)                                                     \
    ssize_t name parameters                                                                        \
    {                                                                                              \
        return read_fails(fd) ? -1 : REAL(name) arguments;                                         \
    }

WRAP_READ(read, (int fd, void *to, size_t n), (fd, to, n))
WRAP_READ(pread, (int fd, void *to, size_t n, off_t at), (fd, to, n, at))
WRAP_READ(pread64, (int fd, void *to, size_t n, off64_t at), (fd, to, n, at))
WRAP_READ(readv, (int fd, const struct iovec *to, int n), (fd, to, n))
WRAP(WRITE, ssize_t, -1, write, (int fd, const void *from, size_t n), (fd, from, n))
WRAP(WRITE, ssize_t, -1, pwrite, (int fd, const void *from, size_t n, off_t at), (fd, from, n, at))
WRAP(WRITE, ssize_t, -1, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at))
WRAP(WRITE, ssize_t, -1, writev, (int fd, const struct iovec *from, int n), (fd, from, n))
WRAP(SYNC, int, -1, fsync, (int fd), (fd))
WRAP(SYNC, int, -1, fdatasync, (int fd), (fd))
WRAP(RENAME, int, -1, rename, (const char *from, const char *to), (from, to))
WRAP(RENAME, int, -1, renameat2,
     (int a, const char *from, int b, const char *to, unsigned flags), (a, from, b, to, flags))
WRAP(RENAME, int, -1, link, (const char *from, const char *to), (from, to))
WRAP(RENAME, int, -1, linkat, (int a, const char *from, int b, const char *to, int flags),
     (a, from, b, to, flags))
WRAP(UNLINK, int, -1, unlink, (const char *path), (path))
WRAP(UNLINK, int, -1, unlinkat, (int a, const char *path, int flags), (a, path, flags))
WRAP(UNLINK, int, -1, rmdir, (const char *path), (path))
WRAP(STAT, int, -1, statx,
     (int at, const char *path, int flags, unsigned mask, struct statx *found),
     (at, path, flags, mask, found))
WRAP(CREATE, int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(SPAWN, int, error_number, posix_spawn,
     (pid_t * id, const char *path, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment),
     (id, path, actions, attributes, arguments, environment))
WRAP(SPAWN, int, error_number, posix_spawnp,
     (pid_t * id, const char *path, const posix_spawn_file_actions_t *actions,
      const posix_spawnattr_t *attributes, char *const *arguments, char *const *environment),
     (id, path, actions, attributes, arguments, environment))
WRAP(SPAWN, pid_t, -1, fork, (void), ())
WRAP(THREAD, int, error_number, pthread_create,
     (pthread_t * id, const pthread_attr_t *attributes, void *(*work)(void *), void *with),
     (id, attributes, work, with))

/* Files that are made, and files that are read. */
#define WRAP_OPEN(name, before, given)                                                      \
    int name(before const char *path, int flags, ...)                                              \
    {                                                                                              \
        va_list rest;                                                                              \
        va_start(rest, flags);                                                                     \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0;                  \
        va_end(rest);                                                                              \
        int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;                         \
        return fails(makes ? CREATE : OPEN) ? -1 : REAL(name)(given path, flags, mode);            \
    }
#define COMMA ,
WRAP_OPEN(open, , )
WRAP_OPEN(open64, , )
WRAP_OPEN(openat, int directory COMMA, directory COMMA)
WRAP_OPEN(openat64, int directory COMMA, directory COMMA)
