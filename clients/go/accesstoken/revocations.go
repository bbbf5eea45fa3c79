package accesstoken

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"time"
)

const (
	maxRevocations = 1_000_000
	maxPageBytes   = 4 * 1024 * 1024
	maxPages       = 1000 // more than a full list has, at one time
	maxCursorBytes = 1024
	pollEvery      = 2 * time.Second
	maxBackOff     = 3 * time.Second
)

// digest is the SHA-256 of an id's canonical text: the list tells nothing to
// whoever does not know the id.
type digest [sha256.Size]byte

// revocation ends the tokens of a generation below this one, until its end.
type revocation struct {
	below uint64
	until int64
}

// known is what counts at one time. It does not change once it is published.
type known struct {
	sessions map[digest]revocation
	accounts map[digest]revocation
}

func (k known) clone() known {
	return known{maps.Clone(k.sessions), maps.Clone(k.accounts)}
}

func (k known) add(page RevocationPage) {
	for _, entry := range page.entries {
		of := k.accounts
		if entry.isSession {
			of = k.sessions
		}
		// Two entries for one account say what either says.
		old := of[entry.digest]
		of[entry.digest] = revocation{max(old.below, entry.below), max(old.until, entry.until)}
	}
}

func (k known) prune(now int64) {
	passed := func(_ digest, entry revocation) bool { return entry.until <= now }
	maps.DeleteFunc(k.sessions, passed)
	maps.DeleteFunc(k.accounts, passed)
}

func newKnown() known {
	return known{map[digest]revocation{}, map[digest]revocation{}}
}

// RevocationList is what is known to be revoked. Follow fills it; whoever gets
// the pages in another way hands them to Apply. Safe for concurrent use.
type RevocationList struct {
	Now func() time.Time // the clock
	// Leeway is how long an entry counts beyond its end: the ExpLeeway of the
	// validator.
	Leeway time.Duration

	mutex    sync.RWMutex
	known    known
	incoming *known // replaces what is known when its last page has come
	cursor   string
	complete time.Time
}

// NewRevocationList returns a list without entries.
func NewRevocationList() *RevocationList {
	return &RevocationList{Now: time.Now, known: newKnown()}
}

// Apply takes the next page. The pages from one with reset to one without more
// replace what is known, all at once; every other page adds to it.
func (l *RevocationList) Apply(page RevocationPage) error {
	now := l.Now().Unix() - int64(l.Leeway/time.Second)
	l.mutex.Lock()
	defer l.mutex.Unlock()
	replaces := page.Reset || l.incoming != nil
	var next known
	switch {
	case l.incoming != nil:
		next = *l.incoming
	case page.Reset:
		next = newKnown()
	default:
		next = l.known.clone()
	}
	l.incoming = nil
	next.prune(now)
	next.add(page)
	if len(next.sessions)+len(next.accounts) > maxRevocations {
		if replaces {
			l.cursor = ""
		}
		return errors.New("the list of revocations is too long")
	}
	l.cursor = page.Cursor
	if replaces && page.More {
		l.incoming = &next
	} else {
		l.known = next
	}
	if !page.More {
		l.complete = time.Now()
	}
	return nil
}

func (l *RevocationList) confirm() {
	l.mutex.Lock()
	defer l.mutex.Unlock()
	l.complete = time.Now()
}

// Cursor is where the next page starts; empty for the first one.
func (l *RevocationList) Cursor() string {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	return l.cursor
}

// Age is the time since the list was last known to be complete. It is not, if it
// never was.
func (l *RevocationList) Age() (time.Duration, bool) {
	l.mutex.RLock()
	defer l.mutex.RUnlock()
	return time.Since(l.complete), !l.complete.IsZero()
}

// Revokes tells whether a token is revoked: its session is listed, or its account
// with a generation above the token's.
func (l *RevocationList) Revokes(claims Claims) bool {
	now := l.Now().Unix() - int64(l.Leeway/time.Second)
	l.mutex.RLock()
	known := l.known
	l.mutex.RUnlock()
	counts := func(entry revocation) bool {
		return claims.Generation < entry.below && entry.until > now
	}
	return claims.SessionID != "" && counts(known.sessions[sha256.Sum256([]byte(claims.SessionID))]) ||
		counts(known.accounts[sha256.Sum256([]byte(claims.Subject))])
}

// RevocationPage is one answer of GET /.well-known/revocations.
type RevocationPage struct {
	Reset, More bool
	Cursor      string
	entries     []revocationEntry
}

type revocationEntry struct {
	isSession bool
	digest    digest
	revocation
}

// ParseRevocationPage reads the body of an answer. Entries of a kind that is not
// known here are passed over.
func ParseRevocationPage(text []byte) (RevocationPage, error) {
	malformed := errors.New("not a page of revocations")
	var body struct {
		Reset, More *bool
		Cursor      *string
		Entries     *[]*struct {
			Session, Account *string
			Generation       *uint64
			Until            *int64
		}
	}
	if err := json.Unmarshal(text, &body); err != nil {
		return RevocationPage{}, malformed
	}
	if body.Reset == nil || body.More == nil || body.Cursor == nil || body.Entries == nil ||
		len(*body.Cursor) > maxCursorBytes {
		return RevocationPage{}, malformed
	}
	page := RevocationPage{Reset: *body.Reset, More: *body.More, Cursor: *body.Cursor}
	for _, given := range *body.Entries {
		switch {
		case given == nil:
			return RevocationPage{}, malformed
		case given.Session == nil && given.Account == nil:
			continue
		case given.Until == nil || given.Session != nil && (given.Account != nil || given.Generation != nil) ||
			given.Account != nil && given.Generation == nil:
			return RevocationPage{}, malformed
		}
		entry := revocationEntry{isSession: given.Session != nil}
		entry.until = *given.Until
		name := given.Account
		if entry.isSession {
			// Tokens of every generation.
			name, entry.below = given.Session, ^uint64(0)
		} else {
			entry.below = *given.Generation
		}
		raw, err := base64.RawURLEncoding.DecodeString(*name)
		if err != nil || len(raw) != sha256.Size || base64.RawURLEncoding.EncodeToString(raw) != *name {
			return RevocationPage{}, malformed
		}
		entry.digest = digest(raw)
		page.entries = append(page.entries, entry)
	}
	return page, nil
}

// Follow keeps the list current from this URL until the context ends: run it in a
// goroutine. While the auth service is away, what is known goes on counting.
func (l *RevocationList) Follow(ctx context.Context, feed string) {
	client := &http.Client{
		Timeout:       pollEvery,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	follower := &follower{list: l, client: client, feed: feed}
	outage := false
	backOff := 250 * time.Millisecond
	for ctx.Err() == nil {
		pause := pollEvery
		if err := follower.catchUp(ctx); err == nil {
			outage, backOff = false, 250*time.Millisecond
		} else {
			if !outage && ctx.Err() == nil {
				slog.Warn("cannot read the list of revocations: what is known goes on counting", "error", err)
			}
			outage = true
			pause, backOff = backOff, min(2*backOff, maxBackOff)
		}
		// Without jitter, replicas that started together would ask together.
		select {
		case <-ctx.Done():
		case <-time.After(pause - time.Duration(rand.Int64N(int64(pause)/10))):
		}
	}
}

type follower struct {
	list   *RevocationList
	client *http.Client
	feed   string
	tag    string // of the answer to the cursor below
	tagOf  string
}

func (f *follower) catchUp(ctx context.Context) error {
	for range maxPages {
		cursor := f.list.Cursor()
		page, err := f.get(ctx, cursor)
		if err != nil || page == nil {
			return err
		}
		if page.More && page.Cursor == cursor {
			break
		}
		if err := f.list.Apply(*page); err != nil {
			f.tag = ""
			return err
		}
		if !page.More {
			return nil
		}
	}
	return errors.New("the pages of the list have no end")
}

// get returns the page after a cursor; nil where nothing has changed.
func (f *follower) get(ctx context.Context, cursor string) (*RevocationPage, error) {
	address, err := url.Parse(f.feed)
	if err != nil {
		return nil, err
	}
	if cursor != "" {
		query := address.Query()
		query.Set("after", cursor)
		address.RawQuery = query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address.String(), nil)
	if err != nil {
		return nil, err
	}
	tag := f.tag
	f.tag = ""
	if tag != "" && f.tagOf == cursor {
		request.Header.Set("If-None-Match", tag)
	} else {
		tag = ""
	}
	response, err := f.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch {
	case response.StatusCode == http.StatusNotModified && tag != "":
		f.tag = tag
		f.list.confirm()
		return nil, nil
	case response.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("status %s", response.Status)
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxPageBytes+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxPageBytes {
		return nil, errors.New("the page is too large")
	}
	page, err := ParseRevocationPage(text)
	if err != nil {
		return nil, err
	}
	// A page that leads on, or that begins again, is read whole the next time.
	if !page.More && !page.Reset {
		f.tag, f.tagOf = response.Header.Get("ETag"), cursor
	}
	return &page, nil
}
