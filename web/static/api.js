// Asking the API, and listening to its stream. A key, where one is needed, is kept for this tab alone.

/** The server's clock less this device's, ms: the device's own may be wrong. */
export const clock = { skew: 0 };
/** The Date of an answer is in whole seconds, and as old as its way: smaller differences tell nothing. */
const COARSE_MS = 3000;

const ROOT = "/api/v1";
const KEY = "skyfuse-key";

export class ApiError extends Error {
  constructor(status, detail, code) {
    super(detail);
    this.status = status;
    this.code = code;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

function headers(more = {}) {
  return key.get() ? { Authorization: `Bearer ${key.get()}`, ...more } : more;
}

/** The JSON of a path under the API; `path` may be an address that an answer named. */
export async function get(path) {
  return ask(path, { headers: headers({ Accept: "application/json" }), cache: "no-cache" });
}

/** Change something: POST, PATCH or DELETE with a JSON body; its answer, null where there is none. */
export async function send(method, path, body = {}) {
  return ask(path, { method, headers: headers({ "Content-Type": "application/json" }), body: JSON.stringify(body) });
}

async function ask(path, options) {
  const answer = await fetched(path.startsWith("/") ? path : `${ROOT}/${path}`, options);
  return answer.status === 204 ? null : answer.json();
}

/** The answer where it is a good one. Throws ApiError. */
async function fetched(address, options) {
  let answer;
  try {
    answer = await fetch(address, options);
  } catch {
    throw new ApiError(0, "the server does not answer", "away");
  }
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw new ApiError(answer.status, problem.detail ?? answer.statusText, (problem.type ?? "").split(":").pop());
  }
  const skew = new Date(answer.headers.get("date") ?? NaN) - Date.now();
  if (Math.abs(skew - clock.skew) > COARSE_MS) clock.skew = skew;
  return answer;
}

/** All pages of a list: the items under `name`. */
export async function all(path, name) {
  const found = [];
  for (let next = path; next; ) {
    const page = await get(next);
    found.push(...page[name]);
    next = page.next;
  }
  return found;
}

/** A file that may need a key: {url, headers}; whoever has used the URL revokes it. Throws ApiError. */
export async function fileOf(path) {
  const answer = await fetched(path, { headers: headers() });
  return { url: URL.createObjectURL(await answer.blob()), headers: answer.headers };
}

const QUIET_MS = 16000;
const LONGEST_PAUSE_MS = 10000;

/**
 * Listen for ever: after a break it goes on after the last event. `hear(name, data)` gets each event;
 * `state(open)` whether the line is open.
 */
export function listen(hear, state) {
  let id = null;
  let pause = 500;
  let ended = false;
  let abort = null;
  const run = async () => {
    while (!ended) {
      abort = new AbortController();
      let watch = null;
      const alive = () => {
        clearTimeout(watch);
        watch = setTimeout(() => abort.abort(), QUIET_MS);
      };
      try {
        alive();
        const answer = await fetch(`${ROOT}/stream`, {
          headers: headers(id ? { "Last-Event-ID": id } : {}),
          signal: abort.signal,
          cache: "no-store",
        });
        if (!answer.ok) throw new ApiError(answer.status, answer.statusText, "");
        state(true, answer.status);
        pause = 500;
        const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
        let rest = "";
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          alive();
          const blocks = (rest + value).split("\n\n");
          rest = blocks.pop();
          for (const block of blocks) {
            let name = "message";
            let data = "";
            for (const line of block.split("\n")) {
              if (line.startsWith("id: ")) id = line.slice(4);
              else if (line.startsWith("event: ")) name = line.slice(7);
              else if (line.startsWith("data: ")) data += line.slice(6);
            }
            if (data) hear(name, JSON.parse(data));
          }
        }
      } catch (error) {
        state(false, error.status ?? 0);
      } finally {
        clearTimeout(watch);
      }
      if (ended) return;
      state(false, 0);
      // Not all pages at once: the server has just come back.
      await new Promise((go) => setTimeout(go, pause * (0.5 + Math.random())));
      pause = Math.min(2 * pause, LONGEST_PAUSE_MS);
    }
  };
  run();
  return () => {
    ended = true;
    abort?.abort();
  };
}
