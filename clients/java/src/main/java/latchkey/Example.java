package latchkey;

import auth.v1.AuthServiceOuterClass.LoginRequest;
import auth.v1.AuthServiceOuterClass.RegisterRequest;
import com.google.protobuf.FieldMask;
import io.grpc.StatusRuntimeException;
import io.grpc.health.v1.HealthCheckRequest;
import java.io.PrintStream;
import java.util.UUID;
import user.v1.UserOuterClass.User;
import user.v1.UserServiceOuterClass.GetUserRequest;
import user.v1.UserServiceOuterClass.UpdateUserRequest;

/** Registers, logs in, reads and changes the profile, and looks at what errors say. */
public final class Example {
    private Example() {}

    /** Takes the addresses of the auth and the user service as {@code host:port}. */
    public static void main(String[] args) {
        run(args.length > 0 ? args[0] : "localhost:50051", args.length > 1 ? args[1] : "localhost:50052", System.out);
    }

    static void run(String authAddress, String userAddress, PrintStream out) {
        try (var authService = new Connection(authAddress);
                var userService = new Connection(userAddress)) {
            // "" asks about the process as a whole, a name about that service.
            var authHealth = authService.health().check(health("auth.v1.AuthService"));
            var userHealth = userService.health().check(health("user.v1.UserService"));
            out.println("auth.v1.AuthService is " + authHealth.getStatus());
            out.println("user.v1.UserService is " + userHealth.getStatus());

            var auth = authService.auth();
            var email = "ada-" + UUID.randomUUID() + "@example.com";
            var password = UUID.randomUUID().toString();
            var id = auth.register(registration(email, password)).getId();
            out.println("registered " + id);

            try {
                auth.register(registration(email, password));
            } catch (StatusRuntimeException error) {
                var failure = Failure.of(error);
                if (!failure.reason().equals("email_already_registered")) throw error;
                out.println("again: " + failure.code() + ", " + failure.reason());
            }

            try {
                auth.register(registration("nobody", "short"));
            } catch (StatusRuntimeException error) {
                var failure = Failure.of(error);
                if (!failure.reason().equals("validation_failed")) throw error;
                out.println("malformed: " + failure.code() + ", " + failure.reason());
                failure.faults().forEach(fault -> out.println("  " + fault.getField() + ": " + fault.getDescription()));
            }

            var login = auth.login(credentials(email, password));
            out.println("logged in for " + login.getExpiresIn() + " s");

            // The profile comes into being with the first call that carries the token.
            var users = userService.users(login.getAccessToken());
            var user = users.getUser(GetUserRequest.newBuilder().setId(id).build()).getUser();
            out.println("the profile of " + user.getEmail() + " has the name \"" + user.getName() + "\"");

            // Only what the mask names is changed; the etag keeps a change of somebody else from being lost.
            var change = UpdateUserRequest.newBuilder()
                    .setUser(User.newBuilder().setId(id).setName("Ada Lovelace"))
                    .setUpdateMask(FieldMask.newBuilder().addPaths("name"))
                    .setEtag(user.getEtag());
            var renamed = users.updateUser(change.build()).getUser();
            out.println("now it has the name \"" + renamed.getName() + "\"");

            try {
                users.updateUser(change.build());
            } catch (StatusRuntimeException error) {
                var failure = Failure.of(error);
                if (!failure.reason().equals("precondition_failed")) throw error;
                out.println("with the old etag: " + failure.code() + ", " + failure.reason());
            }

            // An account bears some wrong passwords (10 by default), then even the right one has to wait: RetryInfo
            // says how long.
            for (int attempt = 1; attempt <= 11; attempt++) {
                try {
                    auth.login(credentials("eve-" + email, "a guess"));
                } catch (StatusRuntimeException error) {
                    var failure = Failure.of(error);
                    if (failure.retryAfter().isPresent()) {
                        out.println("guess " + attempt + ": " + failure.code() + ", " + failure.reason() + ", again in "
                                + failure.retryAfter().get().toSeconds() + " s");
                        break;
                    }
                    if (!failure.reason().equals("invalid_credentials")) throw error;
                }
            }
        }
    }

    private static HealthCheckRequest health(String service) {
        return HealthCheckRequest.newBuilder().setService(service).build();
    }

    private static RegisterRequest registration(String email, String password) {
        return RegisterRequest.newBuilder().setEmail(email).setPassword(password).build();
    }

    private static LoginRequest credentials(String email, String password) {
        return LoginRequest.newBuilder().setEmail(email).setPassword(password).build();
    }
}
