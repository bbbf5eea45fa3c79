// Writes the codes of docs/errors.md as TypeScript.
//
//     node tools/codes.js ERRORS.md CODES.ts

import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { argv } from "node:process";

const [from, to] = argv.slice(2);
const page = readFileSync(from, "utf8");
const problems = Array.from(page.matchAll(/^## ([a-z_]+)$/gm), ([, code]) => code);
const fields = Array.from(page.matchAll(/^\| `([a-z0-9_]+)` \|/gm), ([, code]) => code);
if (problems.length === 0 || fields.length === 0) throw new Error(`${from} lists no codes`);

const list = (codes) => `[\n${codes.map((code) => `  "${code}",\n`).join("")}] as const`;
mkdirSync(dirname(to), { recursive: true });
writeFileSync(
  to,
  `// Made from docs/errors.md by \`npm run generate\`.

/** The codes of problem documents. */
export const PROBLEM_CODES = ${list(problems)};

/** The codes of single members, with \`validation_failed\`. */
export const FIELD_CODES = ${list(fields)};
`,
);
