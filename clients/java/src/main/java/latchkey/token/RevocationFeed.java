package latchkey.token;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.IOException;
import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse.BodyHandlers;
import java.time.Duration;
import java.util.concurrent.ThreadLocalRandom;

/**
 * Keeps a {@link RevocationList} current from a URL, in a thread of its own. While the auth service is away, what is
 * known goes on counting.
 */
public final class RevocationFeed implements AutoCloseable {
    private static final System.Logger LOG = System.getLogger(RevocationFeed.class.getName());
    private static final Duration POLL = Duration.ofSeconds(2);
    private static final Duration MIN_BACK_OFF = Duration.ofMillis(250);
    private static final Duration MAX_BACK_OFF = Duration.ofSeconds(3);
    private static final int MAX_PAGE_BYTES = 4 * 1024 * 1024;

    /** More than a full list has, at one time. */
    private static final int MAX_PAGES = 1000;

    private final String url;
    private final RevocationList list;
    private final HttpClient client =
            HttpClient.newBuilder().connectTimeout(POLL).build();
    private final Thread thread = new Thread(this::follow, "revocations");

    /** The entity tag of the last page, and the cursor that it was asked for with. */
    private String tag;

    private String tagOf;

    public RevocationFeed(String url, RevocationList list) {
        this.url = url;
        this.list = list;
        thread.setDaemon(true);
        thread.start();
    }

    @Override
    public void close() {
        thread.interrupt();
    }

    private void follow() {
        Duration backOff = MIN_BACK_OFF;
        boolean outage = false;
        try {
            while (true) {
                Duration pause = POLL;
                try {
                    catchUp();
                    backOff = MIN_BACK_OFF;
                    outage = false;
                } catch (IOException | RevocationPage.MalformedException | RevocationList.FullException error) {
                    if (!outage) {
                        LOG.log(System.Logger.Level.WARNING, "cannot read the list of revocations", error);
                    }
                    outage = true;
                    pause = backOff;
                    backOff = backOff.multipliedBy(2).compareTo(MAX_BACK_OFF) < 0 ? backOff.multipliedBy(2) : MAX_BACK_OFF;
                }
                // Without jitter, replicas that started together would ask together.
                Thread.sleep(pause.toMillis() * ThreadLocalRandom.current().nextLong(90, 101) / 100);
            }
        } catch (InterruptedException closed) {
            // The end.
        }
    }

    private void catchUp()
            throws IOException, InterruptedException, RevocationPage.MalformedException, RevocationList.FullException {
        for (int pages = 0; pages < MAX_PAGES; pages++) {
            String cursor = list.cursor();
            RevocationPage page = get(cursor);
            if (page == null) {
                list.confirm();
                return;
            }
            if (page.more() && page.cursor().equals(cursor)) {
                break;
            }
            try {
                list.apply(page);
            } catch (RevocationList.FullException full) {
                tag = null;
                throw full;
            }
            if (!page.more()) {
                return;
            }
        }
        throw new RevocationPage.MalformedException("the pages have no end");
    }

    /** The page after a cursor; null where nothing has changed. */
    private RevocationPage get(String cursor)
            throws IOException, InterruptedException, RevocationPage.MalformedException {
        String query = cursor.isEmpty() ? "" : (url.contains("?") ? "&" : "?") + "after=" + URLEncoder.encode(cursor, UTF_8);
        var request = HttpRequest.newBuilder(URI.create(url + query)).timeout(POLL);
        String known = cursor.equals(tagOf) ? tag : null;
        tag = null;
        if (known != null) {
            request.header("If-None-Match", known);
        }
        var answer = client.send(request.build(), BodyHandlers.ofInputStream());
        try (var body = answer.body()) {
            if (answer.statusCode() == 304 && known != null) {
                tag = known;
                return null;
            }
            if (answer.statusCode() != 200) {
                throw new IOException("status " + answer.statusCode());
            }
            byte[] text = body.readNBytes(MAX_PAGE_BYTES + 1);
            if (text.length > MAX_PAGE_BYTES) {
                throw new RevocationPage.MalformedException("the page is too large");
            }
            RevocationPage page = RevocationPage.read(text);
            // A page that leads on, or that begins again, is read whole the next time.
            if (!page.more() && !page.reset()) {
                tag = answer.headers().firstValue("ETag").orElse(null);
                tagOf = cursor;
            }
            return page;
        }
    }
}
