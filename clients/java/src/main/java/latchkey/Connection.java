package latchkey;

import static java.util.concurrent.TimeUnit.SECONDS;

import auth.v1.AuthServiceGrpc;
import auth.v1.AuthServiceGrpc.AuthServiceBlockingStub;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.health.v1.HealthGrpc;
import io.grpc.health.v1.HealthGrpc.HealthBlockingStub;
import io.grpc.stub.MetadataUtils;
import user.v1.UserServiceGrpc;
import user.v1.UserServiceGrpc.UserServiceBlockingStub;

/** A connection to one of the services by gRPC over plaintext HTTP/2. Keep it: it serves any number of calls. */
public final class Connection implements AutoCloseable {
    private static final Metadata.Key<String> AUTHORIZATION =
            Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER);

    private final ManagedChannel channel;

    /** Connects, at the first call, to {@code host:port}. */
    public Connection(String address) {
        channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create())
                .intercept(new Deadline())
                .build();
    }

    public AuthServiceBlockingStub auth() {
        return AuthServiceGrpc.newBlockingStub(channel);
    }

    /** The profiles, as the person sees them whose access token this is. */
    public UserServiceBlockingStub users(String accessToken) {
        var credentials = new Metadata();
        credentials.put(AUTHORIZATION, "Bearer " + accessToken);
        return UserServiceGrpc.newBlockingStub(channel)
                .withInterceptors(MetadataUtils.newAttachHeadersInterceptor(credentials));
    }

    public HealthBlockingStub health() {
        return HealthGrpc.newBlockingStub(channel);
    }

    @Override
    public void close() {
        channel.shutdownNow();
    }

    /** No call may wait for ever: the deadline goes along with the call, and the service keeps it too. */
    private static final class Deadline implements ClientInterceptor {
        @Override
        public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
            return next.newCall(method, options.getDeadline() == null ? options.withDeadlineAfter(10, SECONDS) : options);
        }
    }
}
