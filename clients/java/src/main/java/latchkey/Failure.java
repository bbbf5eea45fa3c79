package latchkey;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.rpc.BadRequest;
import com.google.rpc.BadRequest.FieldViolation;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.List;
import java.util.Optional;
import java.util.stream.Stream;

/**
 * What the {@code google.rpc} details of an error say.
 *
 * @param reason a stable code of docs/errors.md, "" if there is none; decide by it, never by the message
 * @param faults all faults of the input
 * @param retryAfter how long to wait before another try
 */
public record Failure(Status.Code code, String reason, List<FieldViolation> faults, Optional<Duration> retryAfter) {

    public static Failure of(StatusRuntimeException error) {
        List<Any> details = StatusProto.fromThrowable(error).getDetailsList();
        return new Failure(
                error.getStatus().getCode(),
                unpack(details, ErrorInfo.class)
                        .filter(info -> info.getDomain().equals("latchkey"))
                        .map(ErrorInfo::getReason)
                        .findFirst()
                        .orElse(""),
                unpack(details, BadRequest.class)
                        .flatMap(request -> request.getFieldViolationsList().stream())
                        .toList(),
                unpack(details, RetryInfo.class)
                        .map(RetryInfo::getRetryDelay)
                        .map(delay -> Duration.ofSeconds(delay.getSeconds(), delay.getNanos()))
                        .findFirst());
    }

    private static <T extends Message> Stream<T> unpack(List<Any> details, Class<T> type) {
        return details.stream().filter(detail -> detail.is(type)).map(detail -> {
            try {
                return detail.unpack(type);
            } catch (InvalidProtocolBufferException malformed) {
                throw new UncheckedIOException(malformed);
            }
        });
    }
}
