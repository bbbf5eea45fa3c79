package latchkey;

import auth.v1.AuthServiceOuterClass.LoginRequest;
import auth.v1.AuthServiceOuterClass.LoginResponse;
import auth.v1.AuthServiceOuterClass.RegisterRequest;
import java.util.UUID;

/** A person with a new account, logged in. */
public record Newcomer(String id, String email, String password, LoginResponse login) {
    public static Newcomer register(Connection authService) {
        var email = "ada-" + UUID.randomUUID() + "@example.com";
        var password = UUID.randomUUID().toString();
        var auth = authService.auth();
        var account = auth.register(RegisterRequest.newBuilder().setEmail(email).setPassword(password).build());
        var login = auth.login(LoginRequest.newBuilder().setEmail(email).setPassword(password).build());
        return new Newcomer(account.getId(), email, password, login);
    }

    public String token() {
        return login.getAccessToken();
    }
}
