"use strict";

// The page of GET /docs: shows the service's own openapi.json, and sends its requests.

/** What a reference inside the document stands for. */
function resolve(document, value) {
  const reference = value && value.$ref;
  if (typeof reference !== "string" || !reference.startsWith("#/")) return value;
  const step = (at, name) => at && at[name.replaceAll("~1", "/").replaceAll("~0", "~")];
  return reference.slice(2).split("/").reduce(step, document);
}

/**
 * The document as the page shows it. Parameters stand in each operation, since the interface has no
 * name for one that is given to a whole path by reference. The refusals of an operation are one row:
 * all of them have the same form, and what matters is which there are.
 */
function forThePage(document) {
  for (const path of Object.values(document.paths ?? {})) {
    const shared = path.parameters ?? [];
    delete path.parameters;
    for (const operation of Object.values(path)) {
      if (!operation || typeof operation !== "object" || !operation.responses) continue;
      const own = operation.parameters ?? [];
      // Every operation takes a request id, as the introduction says.
      operation.parameters = [...own, ...shared]
        .map((one) => resolve(document, one))
        .filter((one) => one.name !== "X-Request-Id");
      const isRefusal = ([status]) => Number(status) >= 400;
      const responses = Object.entries(operation.responses);
      const refusals = responses.filter(isRefusal).map(([status, response]) => {
        const { description = "" } = resolve(document, response) ?? {};
        return `- \`${status}\` ${description.split("\n")[0]}`;
      });
      if (refusals.length === 0) continue;
      const first = resolve(document, responses.find(isRefusal)[1]);
      const schema = resolve(document, first.content?.["application/problem+json"]?.schema);
      operation.responses = Object.fromEntries(responses.filter((one) => !isRefusal(one)));
      operation.responses["4xx, 5xx"] = {
        description: `A problem document (RFC 9457); [/errors](errors) has all codes.\n\n${refusals.join("\n")}`,
        content: schema && { "application/problem+json": { schema } },
      };
    }
  }
  return document;
}

/** The scheme of access tokens in the document, if it has one: its name and what the document says of it. */
function bearerScheme(document) {
  const schemes = Object.entries(document.components?.securitySchemes ?? {});
  const found = schemes.find(([, schema]) => schema.type === "http" && schema.scheme === "bearer");
  return found && { name: found[0], schema: found[1] };
}

/** The refresh tokens that the document shows as examples. */
function exampleRefreshTokens(document) {
  const tokens = new Set();
  JSON.stringify(document, (name, value) => {
    if (name === "refresh_token" && typeof value === "string") tokens.add(value);
    return value;
  });
  return tokens;
}

/** Where the refresh token of the last login is kept: until this tab is closed. */
const REFRESH_TOKEN = "refresh_token";

/** Follows the colours that the system is set to. */
function followColours() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
  dark.addEventListener("change", apply);
  apply();
}

async function start() {
  followColours();
  const answer = await fetch("openapi.json");
  const described = await answer.json();
  document.title = described.info.title;
  const spec = forThePage(structuredClone(described));
  const scheme = bearerScheme(described);
  const examples = exampleRefreshTokens(described);
  const { token_page: tokenPage } = await (await fetch("docs/page.json")).json();

  const ui = SwaggerUIBundle({
    spec,
    dom_id: "#ui",
    deepLinking: true,
    tryItOutEnabled: true,
    // The token stays, in this browser and for this service, until "Logout".
    persistAuthorization: true,
    displayRequestDuration: true,
    defaultModelsExpandDepth: 0,
    // Otherwise the document's address would be sent to somebody else's validator.
    validatorUrl: null,
    // The refresh token in an example stands for the one that the last login gave.
    requestInterceptor: (request) => {
      const held = sessionStorage.getItem(REFRESH_TOKEN);
      if (held && typeof request.body === "string") {
        for (const example of examples) request.body = request.body.replace(example, held);
      }
      return request;
    },
    // Whoever logs in on the page is logged in on the page.
    responseInterceptor: (response) => {
      const { access_token: token, refresh_token: refresh } = (response.ok && response.body) || {};
      if (typeof refresh === "string") sessionStorage.setItem(REFRESH_TOKEN, refresh);
      if (typeof token === "string") access?.use(token);
      return response;
    },
  });
  // A service that issues tokens has the operation that does.
  const issues = Boolean(described.paths?.["/auth/login"]);
  const access = scheme && new Access(ui, scheme, issues ? undefined : tokenPage);
}

start().catch(() => {
  document.getElementById("ui").textContent = "openapi.json cannot be read. Reload the page to try again.";
});
