import { env } from "node:process";

/** A test without its service proves nothing, so a missing address fails it. */
function required(name: string): string {
  const value = env[name];
  if (!value) throw new Error(`${name} is not set: see clients/README.md`);
  return value;
}

export const authUrl = (): string => required("AUTH_HTTP");
export const userUrl = (): string => required("USER_HTTP");
/** The origin that both services allow. */
export const pageOrigin = (): string => required("PAGE_ORIGIN");
/** The folder into which the services write their mails. */
export const mailFolder = (): string => required("MAIL_FOLDER");
/** The browser's program. */
export const chromium = (): string => required("CHROMIUM");
