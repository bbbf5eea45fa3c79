package latchkey;

import static java.nio.charset.StandardCharsets.UTF_8;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertLinesMatch;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import auth.v1.AuthServiceOuterClass.LoginRequest;
import auth.v1.AuthServiceOuterClass.RegisterRequest;
import com.google.protobuf.FieldMask;
import com.google.rpc.BadRequest.FieldViolation;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import io.grpc.health.v1.HealthCheckResponse.ServingStatus;
import java.io.ByteArrayOutputStream;
import java.io.PrintStream;
import java.time.Duration;
import java.util.List;
import java.util.UUID;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.function.Executable;
import user.v1.UserOuterClass.User;
import user.v1.UserServiceOuterClass.GetUserRequest;
import user.v1.UserServiceOuterClass.UpdateUserRequest;

class ClientTest {
    private static Connection authService;
    private static Connection userService;

    @BeforeAll
    static void connect() {
        authService = new Connection(Settings.required("AUTH_GRPC"));
        userService = new Connection(Settings.required("USER_GRPC"));
    }

    @AfterAll
    static void disconnect() {
        authService.close();
        userService.close();
    }

    private static Failure failureOf(Executable call) {
        return Failure.of(assertThrows(StatusRuntimeException.class, call));
    }

    private static void assertFailure(Status.Code code, String reason, Failure failure) {
        assertEquals(List.of(code, reason), List.of(failure.code(), failure.reason()));
    }

    private static UpdateUserRequest change(User.Builder user, String... mask) {
        return UpdateUserRequest.newBuilder()
                .setUser(user)
                .setUpdateMask(FieldMask.newBuilder().addAllPaths(List.of(mask)))
                .build();
    }

    private static GetUserRequest byId(String id) {
        return GetUserRequest.newBuilder().setId(id).build();
    }

    @Test
    void theExampleRuns() {
        var out = new ByteArrayOutputStream();
        Example.run(Settings.required("AUTH_GRPC"), Settings.required("USER_GRPC"), new PrintStream(out, true, UTF_8));
        var uuid = "[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}";
        var expected = List.of(
                "auth\\.v1\\.AuthService is SERVING",
                "user\\.v1\\.UserService is SERVING",
                "registered " + uuid,
                "again: ALREADY_EXISTS, email_already_registered",
                "malformed: INVALID_ARGUMENT, validation_failed",
                "  email: \\S.*",
                "  password: \\S.*",
                "logged in for \\d+ s",
                "the profile of ada-" + uuid + "@example\\.com has the name \"\"",
                "now it has the name \"Ada Lovelace\"",
                "with the old etag: ABORTED, precondition_failed",
                "guess \\d+: RESOURCE_EXHAUSTED, too_many_attempts, again in \\d+ s");
        assertLinesMatch(expected, out.toString(UTF_8).lines().toList());
    }

    @Test
    void healthTellsEachServiceApart() {
        var health = authService.health();
        for (String name : List.of("", "auth.v1.AuthService", "auth.v1.AccountService")) {
            var answer = health.check(HealthCheckRequest.newBuilder().setService(name).build());
            assertEquals(ServingStatus.SERVING, answer.getStatus(), name);
        }
        var unknown = HealthCheckRequest.newBuilder().setService("no.such.Service").build();
        assertEquals(Status.Code.NOT_FOUND, failureOf(() -> health.check(unknown)).code());
    }

    @Test
    void allFaultsOfTheInputComeAtOnce() {
        var request = RegisterRequest.newBuilder().setEmail("nobody").setPassword("short").build();
        var failure = failureOf(() -> authService.auth().register(request));
        assertFailure(Status.Code.INVALID_ARGUMENT, "validation_failed", failure);
        assertEquals(
                List.of("email", "password"),
                failure.faults().stream().map(FieldViolation::getField).toList());
    }

    @Test
    void theMaskDecidesWhatChanges() {
        var ada = Newcomer.register(authService);
        var users = userService.users(ada.token());
        var me = User.newBuilder().setId(ada.id());
        users.updateUser(change(me.setName("Ada").setBio("Analyst"), "*"));
        users.updateUser(change(me.setName("Grace").setBio("not read"), "name"));
        var user = users.getUser(byId(ada.id())).getUser();
        assertEquals(
                List.of("Grace", "Analyst", ada.email()), List.of(user.getName(), user.getBio(), user.getEmail()));

        var failure = failureOf(() -> users.updateUser(change(me, "email", "shoe_size")));
        assertFailure(Status.Code.INVALID_ARGUMENT, "validation_failed", failure);
        assertEquals(2, failure.faults().size());
    }

    @Test
    void othersProfilesCanBeReadWithoutTheEmailAndNotChanged() {
        var ada = Newcomer.register(authService);
        var eve = Newcomer.register(authService);
        userService.users(ada.token()).getUser(byId(ada.id()));
        var users = userService.users(eve.token());
        var seen = users.getUser(byId(ada.id())).getUser();
        assertEquals(ada.id(), seen.getId());
        assertFalse(seen.hasEmail());
        var theft = change(User.newBuilder().setId(ada.id()).setName("Eve"), "name");
        assertFailure(Status.Code.PERMISSION_DENIED, "forbidden", failureOf(() -> users.updateUser(theft)));
    }

    @Test
    void aBadTokenIsRefused() {
        var users = userService.users("not.a.token");
        var failure = failureOf(() -> users.getUser(byId(UUID.randomUUID().toString())));
        assertFailure(Status.Code.UNAUTHENTICATED, "invalid_token", failure);
    }

    @Test
    void aGuardedAccountSaysWhenToComeBack() {
        var ada = Newcomer.register(authService);
        var auth = authService.auth();
        var login = LoginRequest.newBuilder().setEmail(ada.email());
        var guess = login.setPassword("a guess").build();
        var right = login.setPassword(ada.password()).build();
        var failure = failureOf(() -> auth.login(guess));
        assertFailure(Status.Code.UNAUTHENTICATED, "invalid_credentials", failure);
        // How many more are borne is a setting, 10 by default.
        for (int guesses = 2; guesses <= 11 && failure.reason().equals("invalid_credentials"); guesses++) {
            failure = failureOf(() -> auth.login(guess));
        }
        failure = failureOf(() -> auth.login(right));
        assertFailure(Status.Code.RESOURCE_EXHAUSTED, "too_many_attempts", failure);
        var wait = failure.retryAfter().orElseThrow();
        assertTrue(wait.compareTo(Duration.ZERO) > 0 && wait.compareTo(Duration.ofMinutes(15)) <= 0, wait::toString);
    }
}
