/* Forwards connections to a port of this machine, and delays the first byte of each response.

       relay LISTEN TARGET MICROSECONDS

   The first byte of a response is sent that long after the last byte of its request was received; the rest follows
   without delay. This simulates the latency of a distant server, without limiting the bandwidth. Linux only; one thread
   with edge-triggered epoll. Prints "ready" when it accepts connections.
*/
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { CLIENT, SERVER, EVENTS = 512, PIECE = 1 << 18 };

/* Bytes that the socket of one side has not accepted yet. */
struct rest {
    char *bytes;
    size_t at, size;
};

struct connection;

/* One side of a connection; `closed` after it has sent its last byte. */
struct end {
    struct connection *connection;
    int side, socket, closed;
    struct rest rest;
};

struct connection {
    struct end ends[2];
    unsigned long received; /* changes with each receive from the client and when the connection ends: older timers are stale */
    int waiting, open;
    struct connection *next_free;
};

struct timer {
    struct connection *connection;
    unsigned long received;
    long long due;
};

static struct timer *timers; /* a ring buffer, sorted by time because all delays are equal */
static size_t first_timer, timer_count, timer_capacity;
static struct connection *free_connections;
static long long wait_ns;
static int poll_fd;
static char piece[PIECE];

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static long long now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

/* Delays the response to the bytes that were just received from the client. */
static void set_timer(struct connection *connection)
{
    if (timer_count == timer_capacity) {
        size_t capacity = timer_capacity ? 2 * timer_capacity : 4096;
        struct timer *larger = malloc(capacity * sizeof *larger);
        if (!larger) fail("memory");
        for (size_t i = 0; i < timer_count; i++) larger[i] = timers[(first_timer + i) % timer_capacity];
        free(timers);
        timers = larger, timer_capacity = capacity, first_timer = 0;
    }
    connection->waiting = 1;
    timers[(first_timer + timer_count++) % timer_capacity] = (struct timer){connection, ++connection->received, now() + wait_ns};
}

/* Closes a connection, and keeps its memory for another one. */
static void finish(struct connection *connection)
{
    if (!connection->open) return;
    for (int side = CLIENT; side <= SERVER; side++) {
        close(connection->ends[side].socket);
        free(connection->ends[side].rest.bytes);
        connection->ends[side].rest = (struct rest){0};
    }
    connection->open = 0;
    connection->received++;
    connection->next_free = free_connections;
    free_connections = connection;
}

/* Sends the bytes that a side did not accept before. Returns whether none are left. */
static int flush(struct connection *connection, int side)
{
    struct rest *rest = &connection->ends[side].rest;
    if (!rest->size) return 1;
    while (rest->at < rest->size) {
        ssize_t sent = send(connection->ends[side].socket, rest->bytes + rest->at, rest->size - rest->at, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0) {
            if (errno != EAGAIN) finish(connection);
            return 0;
        }
        rest->at += sent;
    }
    free(rest->bytes);
    *rest = (struct rest){0};
    return 1;
}

/* Sends the first `size` bytes of `piece`, and keeps what is not accepted. Returns whether all was sent. */
static int forward(struct connection *connection, int side, size_t size)
{
    ssize_t sent = send(connection->ends[side].socket, piece, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN) return finish(connection), 0;
    size_t accepted = sent < 0 ? 0 : sent;
    if (accepted == size) return 1;
    struct rest *rest = &connection->ends[side].rest;
    *rest = (struct rest){malloc(size - accepted), 0, size - accepted};
    if (!rest->bytes) fail("memory");
    memcpy(rest->bytes, piece + accepted, rest->size);
    return 0;
}

/* Forwards all available bytes to one side, unless a response has to wait. */
static void transfer(struct connection *connection, int to)
{
    if (!connection->open || !flush(connection, to)) return;
    while (!(to == CLIENT && connection->waiting)) {
        ssize_t got = recv(connection->ends[!to].socket, piece, PIECE, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0) {
            finish(connection);
            return;
        }
        if (to == SERVER) set_timer(connection);
        if (!forward(connection, to, got)) return;
        if (got < PIECE && !connection->ends[!to].closed) return; /* further bytes cause another event */
    }
}

/* Registers a socket with epoll. */
static void watch(struct connection *connection, int side, int socket)
{
    int one = 1;
    struct end *end = &connection->ends[side];
    *end = (struct end){.connection = connection, .side = side, .socket = socket};
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = end};
    setsockopt(socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, socket, &event)) fail("epoll_ctl");
}

/* Accepts new connections and connects each to the target. */
static void accept_all(int listener, const struct sockaddr_in *target)
{
    int client;
    while ((client = accept(listener, NULL, NULL)) >= 0) {
        int server = socket(AF_INET, SOCK_STREAM, 0);
        if (server < 0 || connect(server, (const struct sockaddr *)target, sizeof *target)) fail("target");
        struct connection *connection = free_connections ? free_connections : calloc(1, sizeof *connection);
        if (!connection) fail("memory");
        if (connection == free_connections) free_connections = connection->next_free;
        connection->open = 1, connection->waiting = 0;
        watch(connection, CLIENT, client), watch(connection, SERVER, server);
    }
}

/* Handles the epoll events of one side. */
static void handle(struct end *end, unsigned events)
{
    if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) end->closed = 1;
    if (end->rest.size) transfer(end->connection, end->side);
    if (events & EPOLLIN || end->closed) transfer(end->connection, !end->side);
}

/* Sends the responses whose delay has passed. */
static void run_timers(long long time)
{
    while (timer_count && timers[first_timer].due <= time) {
        struct timer timer = timers[first_timer];
        first_timer = (first_timer + 1) % timer_capacity, timer_count--;
        if (timer.received == timer.connection->received) {
            timer.connection->waiting = 0;
            transfer(timer.connection, CLIENT);
        }
    }
}

int main(int count, char **arguments)
{
    if (count != 4) return fprintf(stderr, "relay LISTEN TARGET MICROSECONDS\n"), 2;
    wait_ns = atoll(arguments[3]) * 1000;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, target = here;
    here.sin_port = htons(atoi(arguments[1])), target.sin_port = htons(atoi(arguments[2]));
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) || listen(listener, 1024)) fail("listen");
    poll_fd = epoll_create1(0);
    if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, listener, &(struct epoll_event){.events = EPOLLIN})) fail("epoll_ctl");
    puts("ready"), fflush(stdout);
    struct epoll_event events[EVENTS];
    for (;;) {
        long long left = timer_count ? timers[first_timer].due - now() : 1000000000LL;
        if (left < 0) left = 0;
        struct timespec timeout = {left / 1000000000LL, left % 1000000000LL};
        int found = epoll_pwait2(poll_fd, events, EVENTS, &timeout, NULL);
        if (found < 0 && errno != EINTR) fail("epoll_pwait2");
        for (int i = 0; i < found; i++) {
            if (!events[i].data.ptr) accept_all(listener, &target);
            else handle(events[i].data.ptr, events[i].events);
        }
        run_timers(now());
    }
}
