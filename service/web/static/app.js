// Progressive enhancement only: every page works without this file. Behaviour is asked for with data attributes;
// there are no inline handlers, no eval, and no element styles written as markup (strict Content-Security-Policy).
(() => {
  "use strict";
  const on = (type, handler, capture = false) => document.addEventListener(type, handler, capture);
  const all = (root, selector) => [...(root.matches?.(selector) ? [root] : []), ...root.querySelectorAll(selector)];
  const byId = (id) => document.getElementById(id);

  // htmx: no code from strings, no scripts out of fragments. The policy name is the one the CSP lists.
  const refuse = () => { throw new Error("code from strings is refused; write a data attribute and handle it here"); };
  const rules = { createHTML: (html) => html, createScript: () => "" };
  window.htmx?.registerExtension("ballast", {
    init: (api) => api.initSecurity(window.trustedTypes?.createPolicy("htmx", rules) ?? rules, refuse, refuse),
  });

  // Moments: the server writes UTC, the reader sees their own time zone.
  const zoned = {
    full: { day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit" },
    hour: { hour: "2-digit", minute: "2-digit" },
    weekday: { weekday: "short", hour: "2-digit", minute: "2-digit" },
    day: { day: "numeric", month: "short" },
    month: { month: "short", year: "numeric" },
  };
  for (const kind in zoned) zoned[kind] = new Intl.DateTimeFormat("en-GB", zoned[kind]);
  const ago = (moment) => {
    const seconds = (Date.now() - moment) / 1000;
    const size = Math.abs(seconds);
    if (size < 45) return "just now";
    for (const [limit, unit, name] of [[3600, 60, "min"], [86400, 3600, "h"], [2592000, 86400, "day"]]) {
      if (size >= limit) continue;
      const count = Math.max(1, Math.round(size / unit));
      const text = `${count} ${name}${name === "day" && count > 1 ? "s" : ""}`;
      return seconds > 0 ? `${text} ago` : `in ${text}`;
    }
    return new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" }).format(moment);
  };
  const tellTime = (root) => {
    for (const element of all(root, "time[data-time]")) {
      const moment = new Date(element.dateTime);
      if (Number.isNaN(moment.valueOf())) continue;
      const kind = element.dataset.time;
      if (kind === "full") element.title ||= element.textContent;
      element.textContent = kind === "ago" ? ago(moment) : (zoned[kind] ?? zoned.full).format(moment);
    }
  };

  // Polling: the server decides the interval; hidden tabs rest; a struggling server is asked less and less often.
  const LONGEST_PAUSE = 600_000;
  const polls = new WeakMap();
  const pollOf = (element) => {
    if (!polls.has(element)) polls.set(element, { failures: 0 });
    return polls.get(element);
  };
  const schedule = (element, seconds = 0) => {
    const poll = pollOf(element);
    const pause = Math.max(seconds, Number(element.dataset.poll) || 60) * 1000 * 2 ** poll.failures;
    // A spread of a tenth keeps a thousand tabs from asking in the same second after an outage.
    poll.due = Date.now() + Math.min(pause, LONGEST_PAUSE) * (0.95 + Math.random() / 10);
  };
  const tick = () => {
    if (document.hidden) return;
    for (const element of document.querySelectorAll("[data-poll]")) {
      const poll = pollOf(element);
      if (poll.due === undefined) schedule(element);
      else if (Date.now() >= poll.due) {
        poll.due = Infinity;
        element.dispatchEvent(new CustomEvent("poll"));
      }
    }
  };
  setInterval(tick, 1000);
  setInterval(() => tellTime(document), 30_000);
  on("visibilitychange", tick);

  const pageVersion = document.querySelector('meta[name="schema-version"]')?.content ?? "";
  const offline = (yes) => byId("offline")?.toggleAttribute("hidden", !yes);
  on("htmx:config:request", ({ detail: { ctx } }) => {
    const known = ctx.sourceElement.dataset.etag;
    // Nobody may be there: the automatic logoff of some installations does not take it for use.
    if (ctx.sourceEvent?.type === "poll") ctx.request.headers["X-Unattended"] = "1";
    if (known && ctx.sourceEvent?.type === "poll") ctx.request.headers["If-None-Match"] = known;
  });
  on("htmx:before:response", (event) => {
    const { ctx } = event.detail;
    const { status, headers } = ctx.response;
    const element = ctx.sourceElement;
    const version = headers.get("Schema-Version");
    if (version && pageVersion && version !== pageVersion) {
      // New fragments do not fit an old page: keep what is there and ask for a reload.
      byId("outdated")?.removeAttribute("hidden");
      event.preventDefault();
    }
    if (element.dataset.poll === undefined) return offline(false);
    const struggling = status >= 500 || status === 429;
    pollOf(element).failures = struggling ? Math.min(pollOf(element).failures + 1, 6) : 0;
    if (headers.get("Poll-Seconds")) element.dataset.poll = headers.get("Poll-Seconds");
    schedule(element, Number(headers.get("Retry-After")) || 0);
    offline(struggling);
    // "Nothing new" is news too: what stands there is as fresh as this answer.
    const stamp = status === 304 && element.querySelector("[data-as-of] time");
    if (stamp) {
      const moment = new Date(headers.get("Date") ?? Date.now());
      [stamp.dateTime, stamp.title] = [moment.toISOString(), moment.toUTCString()];
      tellTime(stamp);
    }
    if (status >= 400) event.preventDefault();
  });
  on("htmx:error", ({ target, detail: { ctx } }) => {
    const element = ctx?.sourceElement ?? target;
    if (element.dataset?.poll !== undefined) {
      pollOf(element).failures = Math.min(pollOf(element).failures + 1, 6);
      schedule(element);
    }
    offline(true);
  });
  on("htmx:after:settle", ({ target }) => tellTime(target));

  // Questions before dangerous acts; without scripts the act happens, which is why such acts can be undone.
  let asked = new AbortController();
  const ask = (text, action) => new Promise((answer) => {
    const dialog = byId("confirm");
    if (!dialog?.showModal) return answer(window.confirm(text));
    byId("confirm-text").textContent = text;
    byId("confirm-yes").textContent = action || "Continue";
    dialog.returnValue = "";
    // "close" comes late: after Escape and a quick Enter it must not answer the question that is open by then.
    asked.abort();
    asked = new AbortController();
    dialog.addEventListener("close", () => dialog.open || answer(dialog.returnValue === "yes"), { signal: asked.signal });
    dialog.showModal();
  });
  const agreed = new WeakSet();
  on("submit", (event) => {
    const form = event.target;
    const source = event.submitter?.dataset.confirm ? event.submitter : form;
    if (source.dataset.confirm && !agreed.has(form)) {
      event.preventDefault();
      event.stopImmediatePropagation();
      ask(source.dataset.confirm, source.dataset.confirmAction).then((yes) => {
        if (!yes) return;
        agreed.add(form);
        form.requestSubmit(event.submitter);
        agreed.delete(form);
      });
    }
  }, true);
  on("htmx:confirm", (event) => {
    event.preventDefault();
    const { ctx, issueRequest, dropRequest } = event.detail;
    ask(ctx.confirm, ctx.sourceElement.dataset.confirmAction).then((yes) => (yes ? issueRequest() : dropRequest()));
  });

  // A second click on "Save" must not save twice; ten seconds cover a slow answer and free a form that downloads.
  const release = (form) => form.removeAttribute("aria-busy");
  on("submit", (event) => {
    const form = event.target;
    if (event.defaultPrevented || form.getAttribute("method") !== "post") return;
    if (form.getAttribute("aria-busy") === "true") return event.preventDefault();
    form.setAttribute("aria-busy", "true");
    setTimeout(release, 10_000, form);
  });
  window.addEventListener("pageshow", () => document.querySelectorAll("form[aria-busy]").forEach(release));

  const clicks = {
    "data-dismiss": (button) => button.closest("[data-dismissible]")?.remove(),
    "data-reload": () => location.reload(),
    "data-theme-toggle": () => {
      const root = document.documentElement;
      const dark = root.dataset.theme
        ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
      root.dataset.theme = dark ? "light" : "dark";
      try { localStorage.setItem("theme", root.dataset.theme); } catch { /* it lasts as long as the page, then */ }
    },
    "data-copy": async (button) => {
      await navigator.clipboard.writeText(button.dataset.copy);
      const label = button.querySelector("[data-label]") ?? button;
      label.dataset.was ??= label.textContent;
      label.textContent = "Copied";
      setTimeout(() => { label.textContent = label.dataset.was; }, 2000);
    },
    "data-reveal": (button) => {
      const input = byId(button.getAttribute("aria-controls"));
      const show = input.type === "password";
      input.type = show ? "text" : "password";
      button.setAttribute("aria-pressed", String(show));
      button.textContent = show ? "Hide" : "Show";
    },
  };
  on("click", (event) => {
    for (const name in clicks) {
      const button = event.target.closest?.(`[${name}]`);
      if (button) clicks[name](button);
    }
    for (const menu of document.querySelectorAll("details[data-menu][open]")) {
      if (!menu.contains(event.target)) menu.open = false;
    }
  });
  on("keydown", (event) => {
    const menu = event.key === "Escape" && event.target.closest?.("details[data-menu][open]");
    if (!menu) return;
    menu.open = false;
    menu.querySelector("summary").focus();
  });

  // Charts: the value under the pointer, read from the very path that is drawn.
  const spell = new Intl.NumberFormat("en-GB");
  const read = (chart) => {
    const { width, height } = chart.querySelector("svg").viewBox.baseVal;
    const drawn = chart.querySelector(".chart-line").getAttribute("d").matchAll(/(\d+) (\d+)/g);
    // A drawing is only as exact as its grid: no digit is shown that the line cannot carry.
    chart.step ??= 10 ** Math.ceil(Math.log10((chart.dataset.high - chart.dataset.low) / height));
    return chart.points ??= [...drawn].map(([, x, y]) => [x / width, y / height]);
  };
  on("pointermove", (event) => {
    const plot = event.target.closest?.(".chart-plot");
    document.querySelectorAll(".chart-tip").forEach((old) => { old.hidden = old.parentElement !== plot; });
    const chart = plot?.closest("[data-chart]");
    if (!chart) return;
    const { from, to, low, high, unit } = chart.dataset;
    const box = plot.getBoundingClientRect();
    const place = (event.clientX - box.left) / box.width;
    const [x, y] = read(chart).reduce((best, point) =>
      (Math.abs(point[0] - place) < Math.abs(best[0] - place) ? point : best));
    let tip = plot.querySelector(".chart-tip");
    if (!tip) {
      tip = plot.appendChild(document.createElement("div"));
      tip.className = "chart-tip";
      tip.ariaHidden = "true";
      tip.appendChild(document.createElement("div")).append(document.createElement("b"), document.createElement("span"));
    }
    const [value, time] = tip.firstChild.children;
    const moment = new Date(Date.parse(from) + x * (Date.parse(to) - Date.parse(from)));
    const level = Math.round((high - y * (high - low)) / chart.step) * chart.step;
    value.textContent = `≈ ${spell.format(Number(level.toPrecision(6)))} ${unit}`;
    time.textContent = zoned.full.format(moment);
    tip.style.setProperty("--x", `${x * 100}%`);
    tip.style.setProperty("--y", `${y * 100}%`);
    tip.classList.toggle("left", x > 0.7);
  });

  // A form with a file tells how far it is; without scripts it is an ordinary form.
  on("submit", (event) => {
    const form = event.target;
    const file = form.dataset.upload && form.elements.file?.files[0];
    if (!file || event.defaultPrevented) return;
    event.preventDefault();
    const says = form.querySelector("[data-says]");
    const bar = form.querySelector("progress");
    const end = (text) => {
      says.textContent = text;
      bar.hidden = true;
      release(form);
    };
    if (file.size > Number(form.dataset.upload)) return end(`“${file.name}” is larger than ${form.dataset.upload / 1e6} MB.`);
    const sending = new XMLHttpRequest();
    sending.upload.addEventListener("progress", ({ loaded, total }) => {
      bar.value = loaded / total;
      says.textContent = loaded < total ? `${Math.floor((100 * loaded) / total)} % sent` : "Sent; it is being stored.";
    });
    sending.addEventListener("error", () => end("The connection was lost. Send the file again."));
    sending.addEventListener("load", () => {
      const to = sending.getResponseHeader("HX-Redirect");
      if (to?.startsWith("/")) return location.assign(to);
      try {
        const { detail, title, mend } = JSON.parse(sending.responseText);
        end(`${detail ?? title} ${mend ?? ""}`);
      } catch {
        end("Something went wrong. Reload the page and send the file again.");
      }
    });
    bar.hidden = false;
    sending.open("POST", form.action);
    sending.setRequestHeader("Accept", "application/json");
    sending.setRequestHeader("HX-Request", "true");
    sending.send(new FormData(form));
  });

  // A page that only hands on what another site's redirect brought; without scripts it has a button.
  document.querySelectorAll("form[data-submit-now]").forEach((form) => form.requestSubmit());

  tellTime(document);
})();
