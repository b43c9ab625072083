/* SPDX-License-Identifier: MIT */
/*
 * The control server: its sockets and its thread. See server.h.
 *
 * One thread waits in poll(2) for the listening socket, an eventfd that means
 * "stop" or "kick", and the clients, and gives each its turn. What clients may ask
 * for, and what bounds them, is in clients.h, requests.h and session.h. All sockets
 * are non-blocking.
 *
 * All state but the eventfd and `stop` belongs to the thread while it runs.
 */
#include "ctl/server.h"

#include "base/clock.h"
#include "base/thread.h"
#include "ctl/clients.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define ACCEPT_PAUSE_MS 100
/* jansson parses and prints recursively, at most 2048 levels. */
#define STACK_BYTES ((size_t)2 << 20)

struct ctl_server {
    struct ctl_server_config config; /* with our path and name */
    char *path;
    char *name;
    int listen_fd;
    int wake_fd;
    atomic_bool stop;
    pthread_t thread;
    sem_t handed_out;        /* posted when the owner has the server */
    int64_t accept_after_ms; /* the process is out of descriptors until then */
    struct clients clients;
};

/* The transport of sessions over sockets: session.h says what each returns. */

static ssize_t socket_send(int fd, const char *data, size_t length)
{
    ssize_t sent;

    do {
        sent = send(fd, data, length, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

static ssize_t socket_receive(int fd, char *data, size_t length)
{
    ssize_t received;

    do {
        received = recv(fd, data, length, MSG_DONTWAIT);
    } while (received < 0 && errno == EINTR);
    return received < 0 ? -errno : received;
}

static void socket_close(int fd)
{
    close(fd);
}

static const struct session_transport sockets = {socket_send, socket_receive, socket_close};

/* Has on_kick called if there was a kick. Reads of the eventfd set it to 0. */
static void take_kick(void *context)
{
    struct ctl_server *server = context;
    uint64_t kicks;

    if (read(server->wake_fd, &kicks, sizeof(kicks)) == (ssize_t)sizeof(kicks) &&
        server->config.on_kick != NULL && !atomic_load(&server->stop)) {
        server->config.on_kick(server->config.owner);
    }
}

/* Is the other end somebody who may command the domain? The socket's mode says
 * so already; this holds even if somebody changed it. */
static bool is_peer_allowed(int fd)
{
    struct ucred peer;
    socklen_t length = sizeof(peer);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
           (peer.uid == 0 || peer.uid == geteuid());
}

/* Tells a client for whom there is no place, as far as its socket takes it. */
static void turn_away(const struct ctl_server *server, int fd)
{
    struct session session;
    struct ctl_error error;

    if (session_open(&session, &sockets, fd) < 0) {
        close(fd);
        return;
    }
    ctl_error_set(&error, CTL_BUSY, "%d clients are connected already; try again when one is gone",
                  CTL_SERVER_CLIENTS_MAX);
    if (session_reply(&session, ctl_greeting_build(server->name)) == 0) {
        session_reply_error(&session, &error, NULL);
    }
    session_flush(&session);
    session_close(&session);
}

static void welcome(struct ctl_server *server, int fd)
{
    int ret;

    if (!is_peer_allowed(fd)) {
        close(fd);
        return;
    }
    ret = clients_add(&server->clients, fd);
    if (ret == -EBUSY) {
        turn_away(server, fd);
    } else if (ret < 0) {
        close(fd);
    }
}

static void accept_client(struct ctl_server *server)
{
    int fd = accept4(server->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd >= 0) {
        welcome(server, fd);
    } else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS) {
        /* The socket stays readable: without a pause this would be a busy loop. */
        server->accept_after_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
    }
}

/* How long poll() may wait, in ms; -1 for ever. */
static int wait_ms(struct ctl_server *server, int64_t now)
{
    int64_t until = clients_idle_until_ms(&server->clients);

    if (server->accept_after_ms > now && server->accept_after_ms < until) {
        until = server->accept_after_ms;
    }
    if (until == INT64_MAX) {
        return -1;
    }
    return until <= now ? 0 : (int)(until - now);
}

/* What to wait for; a free place has the descriptor -1, which poll() skips. */
static struct pollfd poll_entry(const struct session *session)
{
    int events = (session_wants_input(session) ? POLLIN : 0) |
                 (session_output_bytes(session) > 0 ? POLLOUT : 0);

    return (struct pollfd){.fd = session->fd, .events = (short)events};
}

static void serve(struct ctl_server *server)
{
    enum { WAKE, LISTEN, FIRST_CLIENT };

    while (!atomic_load(&server->stop)) {
        struct pollfd fds[FIRST_CLIENT + CTL_SERVER_CLIENTS_MAX];
        int64_t now = clock_now_ms();

        fds[WAKE] = (struct pollfd){.fd = server->wake_fd, .events = POLLIN};
        fds[LISTEN] = (struct pollfd){
            .fd = server->accept_after_ms > now ? -1 : server->listen_fd,
            .events = POLLIN,
        };
        for (size_t i = 0; i < CTL_SERVER_CLIENTS_MAX; i++) {
            fds[FIRST_CLIENT + i] = poll_entry(&server->clients.sessions[i]);
        }
        if (poll(fds, FIRST_CLIENT + CTL_SERVER_CLIENTS_MAX, wait_ms(server, now)) < 0 &&
            errno != EINTR) {
            /* Only ENOMEM is left. */
            server->accept_after_ms = clock_now_ms() + ACCEPT_PAUSE_MS;
            usleep(ACCEPT_PAUSE_MS * 1000);
            continue;
        }
        if ((fds[WAKE].revents & POLLIN) != 0) {
            take_kick(server);
        }
        for (unsigned i = 0; i < CTL_SERVER_CLIENTS_MAX && !atomic_load(&server->stop); i++) {
            int readable = fds[FIRST_CLIENT + i].revents & (POLLIN | POLLHUP | POLLERR);

            clients_turn(&server->clients, i, readable != 0);
        }
        if ((fds[LISTEN].revents & POLLIN) != 0) {
            accept_client(server);
        }
        clients_step(&server->clients);
    }
}

static void *server_thread(void *argument)
{
    struct ctl_server *server = argument;

    pthread_setname_np(pthread_self(), "ballast-ctl");
    while (sem_wait(&server->handed_out) < 0) {
        /* EINTR, though all signals are blocked. */
    }
    serve(server);
    return NULL;
}

/* Removes a socket that an earlier process left. */
static int remove_old_socket(const char *path)
{
    struct stat status;

    if (lstat(path, &status) < 0) {
        return errno == ENOENT ? 0 : -errno;
    }
    if (!S_ISSOCK(status.st_mode)) {
        return -EEXIST;
    }
    return unlink(path) < 0 ? -errno : 0;
}

static int listen_at(const char *path, int *listen_fd)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int ret;
    int fd;

    if (strlen(path) >= sizeof(address.sun_path)) {
        return -ENAMETOOLONG;
    }
    memcpy(address.sun_path, path, strlen(path));
    ret = remove_old_socket(path);
    if (ret < 0) {
        return ret;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    /* The socket takes its mode from the descriptor when it is bound: nobody
     * can get in between. chmod() gives back what the umask took. */
    if (fchmod(fd, 0600) < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
        ret = -errno;
        close(fd);
        return ret;
    }
    if (chmod(path, 0600) < 0 || listen(fd, CTL_SERVER_CLIENTS_MAX) < 0) {
        ret = -errno;
        unlink(path);
        close(fd);
        return ret;
    }
    *listen_fd = fd;
    return 0;
}

/* Frees a server whose thread does not run. */
static void server_free(struct ctl_server *server)
{
    clients_fini(&server->clients);
    if (server->listen_fd >= 0) {
        unlink(server->path);
        close(server->listen_fd);
    }
    if (server->wake_fd >= 0) {
        close(server->wake_fd);
    }
    sem_destroy(&server->handed_out);
    free(server->path);
    free(server->name);
    free(server);
}

int ctl_server_start(const struct ctl_server_config *config, struct ctl_server **server)
{
    struct ctl_server *made = calloc(1, sizeof(*made));
    int ret;

    if (made == NULL) {
        return -ENOMEM;
    }
    made->config = *config;
    sem_init(&made->handed_out, 0, 0);
    made->listen_fd = -1;
    made->wake_fd = -1;
    clients_init(&made->clients, &made->config, &sockets, take_kick, made);
    made->path = strdup(config->path);
    made->name = strdup(config->name);
    made->config.path = made->path;
    made->config.name = made->name;
    ret = made->path != NULL && made->name != NULL ? 0 : -ENOMEM;
    if (ret == 0) {
        made->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        ret = made->wake_fd < 0 ? -errno : 0;
    }
    if (ret == 0) {
        ret = listen_at(made->path, &made->listen_fd);
    }
    if (ret == 0) {
        ret = thread_start(&made->thread, STACK_BYTES, server_thread, made);
    }
    if (ret < 0) {
        server_free(made);
        return ret;
    }
    *server = made;
    /* Handlers may want that for a broadcast. */
    sem_post(&made->handed_out);
    return 0;
}

void ctl_server_kick(struct ctl_server *server)
{
    const uint64_t one = 1;
    int saved = errno;

    /* It fails only if the counter is full, and then the thread will wake too. */
    (void)!write(server->wake_fd, &one, sizeof(one));
    errno = saved;
}

void ctl_server_broadcast(struct ctl_server *server, const json_t *message)
{
    clients_broadcast(&server->clients, message);
}

void ctl_server_stop(struct ctl_server *server)
{
    if (server == NULL) {
        return;
    }
    atomic_store(&server->stop, true);
    ctl_server_kick(server);
    pthread_join(server->thread, NULL);
    server_free(server);
}
