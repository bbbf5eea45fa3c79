// What the services answer with. Members have the names that they have in openapi.json.

/** A new account. */
export interface Account {
  /** A UUID: `sub` in access tokens, and the id of the profile. */
  id: string;
  email: string;
  /** RFC 3339, in UTC. */
  created_at: string;
}

/** The answer to a login or a refresh. */
export interface TokenAnswer {
  access_token: string;
  token_type: "Bearer";
  /** How long the access token is valid, in seconds. */
  expires_in: number;
  /** With `offline_access`. */
  refresh_token?: string;
  /** How long the refresh token is good, in seconds. */
  refresh_token_expires_in?: number;
}

/** A session of the caller's account. */
export interface Session {
  id: string;
  created_at: string;
  last_used_at: string;
  /** When it ends unless it is refreshed. */
  expires_at: string;
  /** From where it was begun: an IPv4 address, or the first half of an IPv6 address. */
  network: string;
  user_agent: string;
  /** Whether it is the session of the caller. */
  current: boolean;
}

/** A profile. */
export interface Profile {
  id: string;
  name: string;
  /** In one's own profile, unless the service shows it to all. */
  email?: string;
  bio: string;
  created_at: string;
  updated_at: string;
}

/** A profile together with its version. */
export interface VersionedProfile {
  profile: Profile;
  /** The entity tag: given to a change, it keeps another's change in the meantime from being lost. */
  etag: string;
}

/** One page of profiles, the oldest first. */
export interface ProfilePage {
  users: Profile[];
  /** What to ask for the next page with; empty at the end. */
  next_page_token: string;
}
