// Legal clients on libraries that people use, as workers: node worker.mjs LIBRARY
import { createInterface } from 'node:readline'
import { setTimeout as sleep } from 'node:timers/promises'

import axios from 'axios'
import axiosRetry from 'axios-retry'
import got from 'got'
import ky from 'ky'
import { Agent, RetryAgent, fetch as undiciFetch } from 'undici'

const TRANSIENT = [500, 502, 503, 504]
const PAUSE = 20 // milliseconds between polls

// Each makes the two requests of a call: create(body), read(id).
const LIBRARIES = {
  undici(call) {
    const dispatcher = new RetryAgent(new Agent({ bodyTimeout: 5000, headersTimeout: 5000 }), {
      maxRetries: 3, minTimeout: 20, maxTimeout: 2000, methods: ['GET'], statusCodes: [429, ...TRANSIENT],
    })
    const api = async (path, options) => {
      const response = await undiciFetch(call.base_url + '/v1' + path, { ...options, headers: headers(call), dispatcher })
      if (!response.ok) throw new Error(`status ${response.status}`)
      return response.json()
    }
    return {
      create: (body) => api(`/models/${call.model}/predictions`, { method: 'POST', body: JSON.stringify(body) }),
      read: (id) => api(`/predictions/${id}`, { method: 'GET' }),
    }
  },
  axios(call) {
    const client = axios.create({ baseURL: call.base_url + '/v1', headers: headers(call), timeout: 5000 })
    axiosRetry(client, { retries: 3, retryDelay: axiosRetry.exponentialDelay, retryCondition: axiosRetry.isIdempotentRequestError })
    return {
      create: async (body) => (await client.post(`/models/${call.model}/predictions`, body)).data,
      read: async (id) => (await client.get(`/predictions/${id}`)).data,
    }
  },
  got(call) {
    const client = got.extend({
      prefixUrl: call.base_url + '/v1', headers: headers(call), timeout: { request: 8000 },
      retry: { limit: 3, methods: ['GET'], statusCodes: [429, ...TRANSIENT], calculateDelay: ({ computedValue }) => computedValue },
    })
    return {
      create: (body) => client.post(`models/${call.model}/predictions`, { json: body }).json(),
      read: (id) => client.get(`predictions/${id}`).json(),
    }
  },
  ky(call) {
    const client = ky.create({
      prefix: call.base_url + '/v1', prefixUrl: call.base_url + '/v1', headers: headers(call), timeout: 8000,
      // Without a maximum, a Retry-After that cannot be read makes ky 1.14 wait for ever, which MC401 rightly tells.
      retry: { limit: 3, methods: ['get'], statusCodes: [429, ...TRANSIENT], backoffLimit: 100, maxRetryAfter: 2000 },
    })
    return {
      create: (body) => client.post(`models/${call.model}/predictions`, { json: body }).json(),
      read: (id) => client.get(`predictions/${id}`).json(),
    }
  },
  fetch(call) {
    const api = async (path, options) => {
      const response = await fetch(call.base_url + '/v1' + path, {
        ...options, headers: headers(call), signal: AbortSignal.timeout(5000),
      })
      if (!response.ok) throw new Error(`status ${response.status}`)
      return response.json()
    }
    return {
      create: (body) => api(`/models/${call.model}/predictions`, { method: 'POST', body: JSON.stringify(body) }),
      read: (id) => api(`/predictions/${id}`, {}),
    }
  },
}

function headers(call) {
  return { authorization: `Bearer ${call.token}`, 'content-type': 'application/json' }
}

async function makePicture(call) {
  const client = LIBRARIES[process.argv[2]](call)
  let prediction = await client.create({ input: call.input })
  while (['starting', 'processing'].includes(prediction.status)) {
    await sleep(PAUSE)
    prediction = await client.read(prediction.id)
  }
  if (prediction.status !== 'succeeded' || !prediction.output) throw new Error(`the prediction ${prediction.status}`)
  return prediction.output
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply
  try {
    reply = { output: await makePicture(JSON.parse(line)) }
  } catch (error) {
    reply = { error: `${error.name}: ${error.message}` }
  }
  console.log(JSON.stringify(reply))
}
